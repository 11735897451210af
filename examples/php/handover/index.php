<?php

session_start();
$user = $_SESSION['user'] ?? null;
session_write_close();
header('Content-Type: text/html; charset=utf-8');
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>A private channel for each user</title>
<link rel="icon" href="data:,">
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
</style>
<h1>A private channel for each user</h1>
<?php if ($user === null): ?>
<form method="post" action="login.php">
  <label>Who are you? <input name="user" pattern="\w{1,32}" required autofocus></label>
  <button>Log in</button>
</form>
<?php else: ?>
<p>You are <b id="user"><?= htmlspecialchars($user) ?></b>.
<form method="post" action="logout.php"><button>Log out</button></form>
<form id="send">
  <label>To <input name="to" required></label>
  <label>say <input name="text" required></label>
  <button>Send</button>
</form>
<?php endif ?>
<p>The stream is <b id="state">not open</b>.</p>
<ol id="messages"></ol>
<script>
const $ = (id) => document.getElementById(id);

// Without a login the response is 403, and an EventSource does not reconnect.
const stream = new EventSource('stream.php');
stream.onopen = () => { $('state').textContent = 'open'; };
stream.onerror = () => {
  $('state').textContent = stream.readyState === EventSource.CLOSED ? 'refused' : 'reconnecting';
};
stream.onmessage = (event) => {
  const { from, text } = JSON.parse(event.data);
  const item = document.createElement('li');
  item.textContent = `${from}: ${text}`;
  $('messages').append(item);
};

$('send')?.addEventListener('submit', (event) => {
  event.preventDefault();
  fetch('send.php', { method: 'POST', body: new FormData(event.target) });
});
</script>
</html>
