<?php

// The last line has no end, as after the last `Response.Write` of a classic ASP page. The browser
// shows the events before it, drops what was not finished, and comes back.

header('Content-Type: text/event-stream');
header('Expires: -1');

$ms = (int) (microtime(true) * 1000);
echo "id: $ms\n";
echo 'data: The server time is: ' . date('H:i:s') . "\n\n";
echo 'data: and this line never ends';
flush();
