<?php

// The last line has no line ending, as after the last `Response.Write` of a classic ASP page. The browser
// dispatches the events before it, discards the incomplete one, and reconnects.

header('Content-Type: text/event-stream');
header('Expires: -1');

$ms = (int) (microtime(true) * 1000);
echo "id: $ms\n";
echo 'data: The server time is: ' . date('H:i:s') . "\n\n";
echo 'data: and this line never ends';
flush();
