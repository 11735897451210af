<?php

// An endless loop that writes two events every 3 seconds, as in most tutorials.

header('Content-Type: text/event-stream');
header('Cache-Control: no-cache');

while (true) {
    $ms = (int) (microtime(true) * 1000);
    echo "id: $ms\n";
    echo 'data: The server time is ' . date('H:i:s') . "\n\n";
    echo "id: $ms\n";
    echo 'data: A random number is ' . random_int(1, 1000) . "\n\n";
    ob_flush();
    flush();
    sleep(3);
}
