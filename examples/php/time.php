<?php

// Publishes the server's time and a random number every three seconds, as two lines of one message.
// A page receives it with `new EventSource('/events/time')` and `onmessage`.

declare(strict_types=1);

require __DIR__ . '/publisher.php';

every(3000, function (Redis $redis): void {
    $redis->publish('time', 'The server time is ' . date('r') . "\nA random number is " . random_int(1, 1000));
});
