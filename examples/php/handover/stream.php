<?php

session_start();
if (!isset($_SESSION['user'])) { http_response_code(403); exit('Log in first.'); }
header('Content-Type: text/event-stream');
header('Grip-Hold: stream');
header('Grip-Channel: user:' . rawurlencode($_SESSION['user']));
