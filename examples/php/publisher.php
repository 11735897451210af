<?php

/**
 * What the examples share: a connection to Redis, and a loop that publishes now and then.
 *
 *   REDIS_URL    redis://[user:password@]host[:port]; the default is the bus inside ssegate
 *   INTERVAL_MS  the time between two messages
 *   COUNT        how many messages to send, also as --count N; without it they never end
 */

declare(strict_types=1);

function connect(): Redis
{
    // `embedded://…` in gateway.yaml names the same place.
    $url = parse_url(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6380');
    $redis = new Redis();
    for ($attempt = 1; ; $attempt++) {
        try {
            $redis->connect(trim($url['host'] ?? '127.0.0.1', '[]'), $url['port'] ?? 6379, 2.0);
            if (isset($url['pass'])) {
                $user = urldecode($url['user'] ?? '');
                $redis->auth([$user === '' ? 'default' : $user, urldecode($url['pass'])]);
            }
            return $redis;
        } catch (RedisException $error) {
            fwrite(STDERR, "Redis does not answer: {$error->getMessage()}\n");
            if ($attempt === 10) {
                exit(1);
            }
            sleep(1);
        }
    }
}

/** Calls $publish with a connection, again and again, with a pause between two calls. */
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
            // This message is lost; the next one goes over a new connection.
            fwrite(STDERR, "Redis is away: {$error->getMessage()}\n");
            $redis = connect();
        }
    }
}
