<?php

// A named event every second, a plain message at random, and an end when the client has disconnected.

date_default_timezone_set('Europe/Zurich');
header('X-Accel-Buffering: no');
header('Content-Type: text/event-stream');
header('Cache-Control: no-cache');

$counter = random_int(1, 3);
while (true) {
    $ms = (int) (microtime(true) * 1000);
    echo "id: $ms\n";
    echo "event: ping\n";
    echo 'data: {"time": "' . date(DATE_ATOM) . '"}' . "\n\n";

    if (--$counter === 0) {
        echo 'data: This is a message at time ' . date(DATE_ATOM) . "\n\n";
        $counter = random_int(1, 3);
    }

    while (ob_get_level() > 0) {
        ob_end_flush();
    }
    flush();

    if (connection_aborted()) {
        break;
    }
    sleep(1);
}
