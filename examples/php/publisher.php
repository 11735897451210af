<?php

/**
 * Shared by the examples: a connection to Redis, and a loop that publishes at an interval.
 *
 *   REDIS_URL    redis://[user:password@]host[:port]; default: the embedded bus of ssegate
 *   INTERVAL_MS  the time between two messages
 *   COUNT        the number of messages, also as --count N; default: unlimited
 */

declare(strict_types=1);

function connect(): Redis
{
    // The address of `embedded://…` in gateway.yaml.
    $url = parse_url(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6380');
    [$host, $port] = [trim($url['host'] ?? '127.0.0.1', '[]'), $url['port'] ?? 6379];
    $redis = new Redis();
    for ($attempt = 1; ; $attempt++) {
        try {
            $redis->connect($host, $port, 2.0);
            break;
        } catch (RedisException $error) {
            // The bus is part of the gateway, which may still be compiling.
            if ($attempt === 1 || $attempt % 10 === 0) {
                fwrite(STDERR, "waiting for Redis at $host:$port ($attempt): {$error->getMessage()}\n");
            }
            usleep(min(1000, (int) ($_SERVER['INTERVAL_MS'] ?? 1000)) * 1000);
        }
    }
    if (isset($url['pass'])) {
        $user = urldecode($url['user'] ?? '');
        try {
            $redis->auth([$user === '' ? 'default' : $user, urldecode($url['pass'])]);
        } catch (RedisException $error) {
            fwrite(STDERR, "Redis authentication failed: {$error->getMessage()}\n");
            exit(1);
        }
    }
    return $redis;
}

/** Calls $publish repeatedly with a connection, and pauses between two calls. */
function every(int $milliseconds, callable $publish): void
{
    $pause = (int) ($_SERVER['INTERVAL_MS'] ?? $milliseconds);
    $count = (int) (getopt('', ['count:'])['count'] ?? $_SERVER['COUNT'] ?? PHP_INT_MAX);
    $redis = connect();
    for ($i = 0; $i < $count; $i++) {
        if ($i > 0) {
            usleep($pause * 1000);
        }
        try {
            $publish($redis);
        } catch (RedisException $error) {
            // This message is lost; the next one uses a new connection.
            fwrite(STDERR, "Redis connection lost: {$error->getMessage()}\n");
            $redis = connect();
        }
    }
}
