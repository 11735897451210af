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

$id = $redis->executeRaw(['XADD', 'log', 'MAXLEN', '~', '100', '1-1', 'data', 'wörld']);
$read = $redis->executeRaw(['XREAD', 'BLOCK', '1', 'STREAMS', 'log', '0']);
echo 'log ', $id, ' ', json_encode($read, JSON_UNESCAPED_UNICODE), "\n";
$none = $redis->executeRaw(['XREAD', 'BLOCK', '1', 'STREAMS', 'log', '$']);
$range = $redis->executeRaw(['XRANGE', 'log', '-', '+', 'COUNT', '10']);
echo 'range ', json_encode($range, JSON_UNESCAPED_UNICODE), ' ', json_encode($none), "\n";
echo 'exists ', $redis->exists('log'), ' ', $redis->type('log'), ' ', $redis->del('log'), "\n";
