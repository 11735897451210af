<?php

// The same, as it is found in many a forum: `date('r')` and `no-cache`.

header('Content-Type: text/event-stream');
header('Cache-Control: no-cache');

$ms = (int) (microtime(true) * 1000);
$time = date('r');
echo "id: {$ms}\ndata: The server time is: {$time}\n\n";
flush();
