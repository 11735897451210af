<?php

// The gateway asks this script, with the visitor's cookies, before it opens a stream of /private, and again
// every few seconds while one is open (`auth: forward` in gateway.yaml). It says who it is, or 401.

session_start(['read_and_close' => true]);
if (isset($_SESSION['user'])) {
    header("X-User: {$_SESSION['user']}");
} else {
    http_response_code(401);
}
