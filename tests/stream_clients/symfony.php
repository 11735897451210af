<?php
// Follows a stream with Symfony's EventSourceHttpClient: symfony.php URL
//
// It comes back by itself when the connection breaks; after an end in good order it is asked again,
// with the last id.

use Symfony\Component\HttpClient\Chunk\ServerSentEvent;
use Symfony\Component\HttpClient\CurlHttpClient;
use Symfony\Component\HttpClient\EventSourceHttpClient;
use Symfony\Contracts\HttpClient\Exception\TransportExceptionInterface;

require '/usr/share/php/Symfony/Component/HttpClient/autoload.php';
ini_set('memory_limit', '256M');

$curl = new CurlHttpClient([
    'verify_peer' => false,
    'verify_host' => false,
    'http_version' => getenv('HTTP2') ? '2.0' : '1.1',
]);
$client = new EventSourceHttpClient($curl, 0.2);
$lastId = '';
while (true) {
    $headers = $lastId === '' ? [] : ['Last-Event-ID' => $lastId];
    $source = $client->connect($argv[1], ['headers' => $headers]);
    try {
        foreach ($client->stream($source, 60) as $chunk) {
            if ($chunk->isTimeout()) {
                continue;
            }
            if ($chunk->isLast()) {
                break;
            }
            if (!$chunk instanceof ServerSentEvent) {
                continue;
            }
            $seen = ['event' => $chunk->getType(), 'data' => $chunk->getData(), 'id' => $chunk->getId()];
            echo json_encode($seen, JSON_THROW_ON_ERROR), "\n";
            $lastId = $chunk->getId() ?: $lastId;
        }
    } catch (TransportExceptionInterface | LogicException $exception) {
        // The latter is a mistake of its own, where nobody listened at first and somebody does later.
        fwrite(STDERR, $exception->getMessage() . "\n");
    }
    try {
        unset($source, $chunk);
    } catch (LogicException $exception) {
        // The same again.
    }
    usleep(200_000);
}
