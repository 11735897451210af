<?php

session_start(['read_and_close' => true]);
$user = $_SESSION['user'] ?? null;
header('Content-Type: text/html; charset=utf-8');
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Who may listen</title>
<link rel="icon" href="data:,">
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
</style>
<h1>Who may listen</h1>
<?php if ($user === null): ?>
<form method="post" action="login.php">
  <label>Who are you? <input name="user" pattern="\w{1,32}" required autofocus></label>
  <button>Log in</button>
</form>
<?php else: ?>
<p>You are <b id="user"><?= htmlspecialchars($user) ?></b>.
<form method="post" action="logout.php"><button>Log out</button></form>
<p>Publish to you: <code>redis-cli -p 6380 PUBLISH user:<?= htmlspecialchars($user) ?> hello</code>
<?php endif ?>
<p>The stream is <b id="state">not open</b>.</p>
<ol id="messages"></ol>
<script>
const $ = (id) => document.getElementById(id);

// Without a login the response is 401, and an EventSource does not reconnect.
const stream = new EventSource('/private');
stream.onopen = () => { $('state').textContent = 'open'; };
stream.onerror = () => {
  $('state').textContent = stream.readyState === EventSource.CLOSED ? 'refused' : 'reconnecting';
};
stream.onmessage = (event) => {
  const item = document.createElement('li');
  item.textContent = event.data;
  $('messages').append(item);
};
</script>
</html>
