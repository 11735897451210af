<?php

// Publishes a record of two fields as JSON, twice a second.
// A page receives it with `onmessage` and parses it with `JSON.parse(event.data)`.

declare(strict_types=1);

require __DIR__ . '/publisher.php';

$temperature = 20.0;

every(500, function (Redis $redis) use (&$temperature): void {
    $temperature = round($temperature + random_int(-5, 5) / 10, 1);
    $record = ['city' => 'Zürich', 'temperature' => $temperature];
    $redis->publish('record', json_encode($record, JSON_UNESCAPED_UNICODE));
});
