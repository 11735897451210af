<?php

// No password: this is an example of streams, not of logins.

session_start();
$user = trim($_POST['user'] ?? '');
if (preg_match('/^\w{1,32}$/', $user)) {
    session_regenerate_id(true);
    $_SESSION['user'] = $user;
}
header('Location: ./', true, 303);
