<?php

// A single event, as shown in many forums: with `date('r')` and `no-cache`.

header('Content-Type: text/event-stream');
header('Cache-Control: no-cache');

$ms = (int) (microtime(true) * 1000);
$time = date('r');
echo "id: {$ms}\ndata: The server time is: {$time}\n\n";
flush();
