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
$redis->close();
