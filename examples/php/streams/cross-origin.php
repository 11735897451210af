<?php

// For a page of another origin that sends cookies:
//   new EventSource('https://api.example/cross-origin.php', { withCredentials: true })

$origin = $_SERVER['HTTP_ORIGIN'] ?? '';
header('Access-Control-Allow-Origin: ' . ($origin ?: '*'));
if ($origin !== '') {
    header('Access-Control-Allow-Credentials: true');
    header('Vary: Origin');
}
header('Content-Type: text/event-stream');
header('Cache-Control: no-store');

$ms = (int) (microtime(true) * 1000);
echo "id: $ms\n";
echo 'data: ' . json_encode(['origin' => $origin, 'visitor' => $_COOKIE['visitor'] ?? null]) . "\n\n";
