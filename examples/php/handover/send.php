<?php

// Sends a message to one user: every open stream of that user's channel receives it.

require __DIR__ . '/../publisher.php';

session_start();
if (!isset($_SESSION['user'])) {
    http_response_code(403);
    exit('Log in first.');
}
$message = ['from' => $_SESSION['user'], 'text' => $_POST['text'] ?? ''];
connect()->publish('user:' . rawurlencode($_POST['to'] ?? ''), json_encode($message));
http_response_code(204);
