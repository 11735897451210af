<?php

// A response word by word, as chat models send it: small JSON events, and [DONE] at the end. The request
// is a POST, so a page reads the response with fetch.

header('Content-Type: text/event-stream; charset=utf-8');
header('Cache-Control: no-cache');

$question = json_decode(file_get_contents('php://input'), true)['question'] ?? '';
$answer = "You have asked: $question. Here is a long answer, token by token, with ümläuts and 日本語, "
    . str_repeat('and so on ', 40);

$say = function (string $data): void {
    echo "data: $data\n\n";
    if (ob_get_level() > 0) {
        ob_flush();
    }
    flush();
};
foreach (preg_split('/(?<= )/u', $answer, -1, PREG_SPLIT_NO_EMPTY) as $index => $token) {
    $say(json_encode([
        'created' => (int) (microtime(true) * 1000),
        'choices' => [['index' => 0, 'delta' => ['content' => $token]]],
    ], JSON_UNESCAPED_UNICODE));
    usleep(5000);
}
$say('[DONE]');
