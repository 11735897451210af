<?php
// What a PHP backend does with predis: publish, pipelined, in a transaction, and Laravel's loop.
require 'Predis/autoload.php';
[, $host, $port] = $argv;
$redis = new Predis\Client(['host' => $host, 'port' => (int) $port, 'timeout' => 5.0, 'database' => 0]);
$payload = json_encode(['hello' => 'wörld']);
echo 'publish ', json_encode($redis->publish('news', $payload)), "\n";

$replies = $redis->pipeline(function ($pipeline) {
    $pipeline->publish('news', 'one');
    $pipeline->publish('news', 'two');
});
echo 'pipeline ', json_encode($replies), "\n";

$replies = $redis->transaction(function ($transaction) {
    $transaction->publish('news', 'three');
});
echo 'transaction ', json_encode($replies), "\n";

// Illuminate\Broadcasting\Broadcasters\RedisBroadcaster
$script = "for i = 2, #ARGV do\n  redis.call('publish', ARGV[i], ARGV[1])\nend";
$result = $redis->eval($script, 0, '{"event":"OrderShipped"}', 'laravel_database_orders', 'news');
echo 'laravel ', json_encode($result), "\n";
