<?php

// An event per second for ten seconds, then the end: the callback of a StreamedResponse in Laravel or
// Symfony.

header('Content-Type: text/event-stream; charset=UTF-8');
header('Cache-Control: no-cache');
header('X-Accel-Buffering: no');

$callback = function (): void {
    for ($second = 1; $second <= 10; $second++) {
        $ms = (int) (microtime(true) * 1000);
        echo "id: $ms\n";
        echo 'data: ' . json_encode(['second' => $second]) . "\n\n";
        if (ob_get_level() > 0) {
            ob_flush();
        }
        flush();
        if ($second < 10) {
            sleep(1);
        }
    }
};
$callback();
