<?php
// What a PHP backend does with phpredis: publish, with a prefix, pipelined, and Laravel's loop.
[, $host, $port] = $argv;
$redis = new Redis();
$redis->connect($host, (int) $port, 5.0);
$payload = json_encode(['hello' => 'wörld']);
echo 'publish ', json_encode($redis->publish('news', $payload)), "\n";

$redis->setOption(Redis::OPT_PREFIX, 'app:');
echo 'prefix ', json_encode($redis->publish('news', 'prefixed')), "\n";
$redis->setOption(Redis::OPT_PREFIX, '');

$pipeline = $redis->multi(Redis::PIPELINE);
$pipeline->publish('news', 'one');
$pipeline->publish('news', 'two');
echo 'pipeline ', json_encode($pipeline->exec()), "\n";

$transaction = $redis->multi();
$transaction->publish('news', 'three');
echo 'transaction ', json_encode($transaction->exec()), "\n";

// Illuminate\Broadcasting\Broadcasters\RedisBroadcaster
$script = "for i = 2, #ARGV do\n  redis.call('publish', ARGV[i], ARGV[1])\nend";
$redis->select(0);
$result = $redis->eval($script, ['{"event":"OrderShipped"}', 'laravel_database_orders', 'news'], 0);
echo 'laravel ', json_encode($result), ' ', json_encode($redis->getLastError()), "\n";

$id = $redis->xAdd('log', '1-1', ['data' => 'wörld'], 100, true);
$read = $redis->xRead(['log' => '0'], 10, 1);
echo 'log ', $id, ' ', json_encode($read, JSON_UNESCAPED_UNICODE), "\n";
$none = $redis->xRead(['log' => '$'], 10, 1);
echo 'range ', json_encode($redis->xRange('log', '-', '+', 10), JSON_UNESCAPED_UNICODE), ' ', json_encode($none), "\n";
echo 'info ', $redis->xInfo('STREAM', 'log')['length'], ' ', $redis->xLen('log'), ' ', $redis->ttl('log'), "\n";
$redis->close();
