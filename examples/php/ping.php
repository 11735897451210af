<?php

// Publishes a named event, `ping`, every second, and sometimes a plain message. Named events require a
// route with `format: envelope` (gateway.yaml in this directory).
// A page receives them with `addEventListener('ping', …)`, and the messages with `onmessage`.

declare(strict_types=1);

require __DIR__ . '/publisher.php';

$untilMessage = random_int(1, 10);

every(1000, function (Redis $redis) use (&$untilMessage): void {
    $time = date(DATE_ATOM);
    $redis->publish('ping', json_encode(['event' => 'ping', 'data' => ['time' => $time]]));
    if (--$untilMessage === 0) {
        $redis->publish('ping', json_encode(['data' => "This is a message at time $time"]));
        $untilMessage = random_int(1, 10);
    }
});
