<?php

// One event, and the script ends: the browser reconnects every 3 seconds. It works everywhere, and costs
// a request per event.

header('Content-Type: text/event-stream');
header('Cache-Control: no-store');

$ms = (int) (microtime(true) * 1000);
echo "id: $ms\n";
echo 'data: The server time is ' . date('H:i:s') . "\n\n";
