//! `auth: forward`: a backend decides, and is asked again while a stream is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    EventStream, Gateway, Process, Program, Redis, Request, Response, SOON, Upstream, Via,
    eventually, free_port, measured, within,
};

/// An auth backend that allows whom the cookie `user` names, unless it is told otherwise.
pub(crate) struct Judge {
    pub(crate) port: u16,
    asked: Arc<AtomicUsize>,
    state: Arc<JudgeState>,
}

#[derive(Default)]
struct JudgeState {
    /// What it responds to everybody, instead of its own verdict.
    instead: std::sync::Mutex<Option<String>>,
    /// It reads, and does not respond.
    is_silent: AtomicBool,
    last: std::sync::Mutex<String>,
}

impl Judge {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, state) = (Arc::<AtomicUsize>::default(), Arc::<JudgeState>::default());
        let (counter, of_all) = (Arc::clone(&asked), Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(judge(socket, Arc::clone(&counter), Arc::clone(&of_all)));
            }
        });
        Self { port, asked, state }
    }

    pub(crate) fn respond(&self, response: &str) {
        *self.state.instead.lock().unwrap() = Some(response.to_owned());
    }

    fn judge_again(&self) {
        *self.state.instead.lock().unwrap() = None;
        self.state.is_silent.store(false, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn last(&self) -> String {
        self.state.last.lock().unwrap().clone()
    }
}

async fn judge(mut socket: TcpStream, asked: Arc<AtomicUsize>, state: Arc<JudgeState>) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else {
            match socket.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        state.last.lock().unwrap().clone_from(&head);
        if state.is_silent.load(Ordering::SeqCst) {
            continue;
        }
        // Slow enough for others to ask the same meanwhile.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let user = head.split("user=").nth(1).map(|rest| rest.split([';', '\r']).next().unwrap());
        let instead = state.instead.lock().unwrap().clone();
        let response = instead.unwrap_or_else(|| match user {
            Some(user) => format!(
                "HTTP/1.1 204 No Content\r\nx-user: {user}\r\nx-org: acme\r\nset-cookie: seen=1\r\n\r\n"
            ),
            None => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Form\r\nset-cookie: a=b\r\n\
                     content-type: text/plain\r\ncontent-length: 13\r\n\r\nplease log in"
                .to_owned(),
        });
        if socket.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn gateway(redis: &Redis, judge: &Judge, backend: &Upstream, more: &str) -> Gateway {
    let (port, upstream) = (judge.port, backend.address());
    Gateway::build(redis)
        .settings(&format!(
            "auth: {{ forward: {{ url: \"http://127.0.0.1:{port}/auth?x=1\", copy_headers: [x-user, x-org]{more} }} }}"
        ))
        .routes(&format!(
            "- {{ path: /mine, events: {{ channels: [\"{{auth.x-org}}:{{auth.id}}\"] }} }}\n\
             - {{ path: /events, events: {{ channels: [\"{{query.channel}}\"] }} }}\n\
             - {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{upstream}\" }} }}\n"
        ))
        .start()
        .await
}

fn of(user: &str, target: &str) -> Request {
    Request::events(target).header("cookie", &format!("user={user}"))
}

#[tokio::test]
async fn a_backend_decides_and_says_who_it_is() {
    let (redis, backend, judge) =
        (Redis::start().await, Upstream::start().await, Judge::start().await);
    let gateway = gateway(&redis, &judge, &backend, "").await;
    for via in Via::ALL {
        let mut stream = gateway.send(via, of("42", "/mine?last_event_id=")).await.stream();
        stream.ready().await;
        redis.publish("acme:42", "yours").await;
        assert_eq!(stream.next_event().await.data, "yours");

        let refused = gateway.send(via, Request::events("/mine")).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("www-authenticate"), "Form");
        assert_eq!(refused.header("set-cookie"), "", "it may be another's");
        assert_eq!(refused.text().await, "please log in");
    }
    let asked = judge.last().to_lowercase();
    assert!(asked.starts_with("get /auth?x=1 http/1.1\r\n"), "{asked}");
    for field in
        ["x-original-uri: /mine\r\n", "x-forwarded-uri: /mine\r\n", "x-original-method: get\r\n"]
    {
        assert!(asked.contains(field), "{field} {asked}");
    }
    for field in ["last-event-id", "connection:", "accept-encoding"] {
        assert!(!asked.contains(field), "{field} {asked}");
    }

    // A browser sends its cookies in several fields over HTTP/2, and a target may have any bytes.
    let crumbs = Request::events("/mine?x=ä")
        .header("cookie", "a=b")
        .header("cookie", "user=42")
        .header("cookie", "c=d");
    assert_eq!(gateway.send(Via::Http2, crumbs).await.status, 200);
    let asked = judge.last();
    assert!(asked.contains("cookie: a=b; user=42; c=d\r\n"), "{asked}");
    assert!(asked.contains("x-original-uri: /mine?x=ä\r\n"), "{asked}");

    // The backend of a proxy route is told, and no client can say it.
    let request = of("7", "/app/x").header("x-user", "admin").header("x-org", "evil");
    let (response, head) = tokio::join!(gateway.send(Via::Http2, request), async {
        let call = backend.call().await;
        let head = call.head.clone();
        call.answer("200 OK", "", "ok").await;
        head
    });
    assert_eq!(response.status, 200);
    assert!(head.contains("x-user: 7\r\n") && head.contains("x-org: acme\r\n"), "{head}");
    assert!(!head.contains("admin") && !head.contains("evil"), "{head}");
}

#[tokio::test]
async fn equal_requests_ask_once_and_no_verdict_serves_another() {
    let (redis, backend, judge) =
        (Redis::start().await, Upstream::start().await, Judge::start().await);
    let gateway = gateway(&redis, &judge, &backend, ", cache: 1h").await;
    let ask = |user: &'static str, target: &'static str| gateway.send(Via::Http1, of(user, target));
    let answers =
        tokio::join!(ask("1", "/mine"), ask("1", "/mine"), ask("1", "/mine"), ask("1", "/mine"));
    let statuses =
        [&answers.0, &answers.1, &answers.2, &answers.3].map(|response: &Response| response.status);
    assert_eq!((statuses, judge.asked()), ([200; 4], 1), "asked once");
    assert_eq!(ask("1", "/mine").await.status, 200);
    assert_eq!(judge.asked(), 1, "known");
    for (user, target) in
        [("2", "/mine"), ("1", "/events?channel=a"), ("1", "/events?channel=b"), ("1", "/mine?x")]
    {
        let before = judge.asked();
        assert_eq!(ask(user, target).await.status, 200);
        assert_eq!(judge.asked(), before + 1, "{user} {target}");
    }
    // A refusal is not kept: the user may log in.
    judge.respond("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(ask("3", "/mine").await.status, 403);
    judge.judge_again();
    assert_eq!(ask("3", "/mine").await.status, 200);
}

#[tokio::test]
async fn what_is_no_verdict_is_not_now() {
    let (redis, backend, judge) =
        (Redis::start().await, Upstream::start().await, Judge::start().await);
    let gateway = gateway(&redis, &judge, &backend, ", cache: 0s, timeout: 1s").await;
    for response in [
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "nonsense\r\n\r\n",
        "",
    ] {
        judge.respond(response);
        judge.state.is_silent.store(response.is_empty(), Ordering::SeqCst);
        let (reason, retry) =
            gateway.send(Via::Http2, of("1", "/mine")).await.stream().sent_away().await;
        assert!(reason.contains("auth backend") && retry > 0, "{reason} {retry}");
        let page = Request::get("/app/x").header("cookie", "user=1");
        assert_eq!(gateway.send(Via::Http1, page).await.status, 503, "{response:?}");
    }
    // A login page is for pages.
    judge.state.is_silent.store(false, Ordering::SeqCst);
    judge.respond("HTTP/1.1 302 Found\r\nlocation: /login?from=/app\r\ncontent-length: 0\r\n\r\n");
    let page = gateway.send(Via::Http1, Request::get("/app/x")).await;
    assert_eq!((page.status, page.header("location")), (302, "/login?from=/app"));
    assert_eq!(gateway.send(Via::Http1, of("1", "/mine")).await.status, 401);
    judge.judge_again();
    assert_eq!(gateway.send(Via::Http1, of("1", "/mine")).await.status, 200);
}

#[tokio::test]
async fn a_slow_backend_holds_nothing_else_up() {
    let (redis, backend, judge) =
        (Redis::start().await, Upstream::start().await, Judge::start().await);
    let gateway = gateway(&redis, &judge, &backend, ", timeout: 60s").await;
    let mut open = gateway.send(Via::Http1, of("1", "/mine")).await.stream();
    open.ready().await;
    judge.state.is_silent.store(true, Ordering::SeqCst);
    let mut waiting = Vec::new();
    for user in 100..200 {
        let (address, request) = (gateway.address_for(Via::Http1), of(&user.to_string(), "/mine"));
        waiting.push(tokio::spawn(request.send_within(2 * SOON, Via::Http1, address)));
    }
    eventually(SOON, "all are asked about", async || judge.asked() > 100).await;
    redis.publish("acme:1", "still").await;
    assert_eq!(open.next_event().await.data, "still");
    for task in waiting {
        task.abort();
    }
}

#[tokio::test]
async fn a_logout_ends_an_open_stream_at_its_recheck() {
    let (redis, backend, judge) =
        (Redis::start().await, Upstream::start().await, Judge::start().await);
    let gateway =
        gateway(&redis, &judge, &backend, ", cache: 0s, recheck: 1s, recheck_grace: 1h").await;
    for via in [Via::Http1, Via::Http2] {
        let mut stream = gateway.send(via, of("1", "/mine")).await.stream();
        stream.ready().await;
        // No verdict ends nothing.
        judge.respond("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
        let before = judge.asked();
        eventually(SOON, "it is asked again", async || judge.asked() > before + 2).await;
        redis.publish("acme:1", "still").await;
        assert_eq!(stream.next_event().await.data, "still");
        judge.respond("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
        let mut retry = None;
        within(SOON, "the end", async {
            while let Some(block) = stream.block().await {
                retry = block.retry.or(retry);
            }
        })
        .await;
        assert!(retry.is_some(), "it says when to come back");
        judge.judge_again();
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"revoked\""], 2.0).await;
    // Nothing is asked any more once the streams are gone.
    let asked = judge.asked();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(judge.asked(), asked);
}

#[tokio::test]
async fn another_login_in_the_same_session_ends_the_stream() {
    let (redis, backend, judge) =
        (Redis::start().await, Upstream::start().await, Judge::start().await);
    // In spite of the cache.
    let gateway = gateway(&redis, &judge, &backend, ", cache: 1h, recheck: 1s").await;
    let mut stream = gateway.send(Via::Http2, of("1", "/mine")).await.stream();
    stream.ready().await;
    let before = judge.asked();
    eventually(SOON, "it is asked again", async || judge.asked() > before + 1).await;
    assert!(!stream.has_ended());
    judge.respond("HTTP/1.1 204 No Content\r\nx-user: 2\r\nx-org: acme\r\n\r\n");
    stream.end().await.expect("in good order");
}

#[tokio::test]
async fn a_stream_without_a_verdict_ends_with_the_grace() {
    let (redis, backend, judge) =
        (Redis::start().await, Upstream::start().await, Judge::start().await);
    let gateway = gateway(
        &redis,
        &judge,
        &backend,
        ", cache: 0s, recheck: 1s, recheck_grace: 2s, timeout: 1s",
    )
    .await;
    let mut stream = gateway.send(Via::Http2, of("1", "/mine")).await.stream();
    stream.ready().await;
    judge.state.is_silent.store(true, Ordering::SeqCst);
    stream.end().await.expect("in good order");
}

/// PHP with sessions: logs in, logs out, and decides.
const PHP: &str = r#"<?php
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
session_start();
if ($path === '/login') { session_regenerate_id(true); $_SESSION['user'] = $_GET['user']; echo 'welcome'; }
elseif ($path === '/logout') { session_destroy(); echo 'bye'; }
elseif (isset($_SESSION['user'])) { header("X-User: {$_SESSION['user']}"); header('X-Org: php'); }
else { http_response_code(401); }
"#;

/// PHP's own server with this script.
fn php(dir: &TempDir, script: &str) -> (Process, u16) {
    let port = free_port();
    std::fs::write(dir.path().join("site.php"), script).unwrap();
    let php = Program::new("/usr/bin/php")
        .args([
            "-S",
            &format!("127.0.0.1:{port}"),
            "-d",
            &format!("session.save_path={}", dir.path().display()),
        ])
        .arg(dir.path().join("site.php"))
        .start();
    (php, port)
}

#[tokio::test]
#[ignore = "needs php-cli: run by tests/run"]
async fn php_sessions_decide() {
    let (redis, dir) = (Redis::start().await, TempDir::new().unwrap());
    let (_php, port) = php(&dir, PHP);
    let gateway = Gateway::build(&redis)
        .routes(&format!(
            "- {{ path: /mine, events: {{ channels: [\"user:{{auth.id}}\"] }}, auth: {{ forward: {{ url: \"http://127.0.0.1:{port}/auth\", copy_headers: [x-user], cache: 0s, recheck: 1s, timeout: 60s }} }} }}\n\
             - {{ path: \"/{{*rest}}\", proxy: {{ upstream: \"http://127.0.0.1:{port}\" }} }}\n"
        ))
        .start()
        .await;
    eventually(SOON, "PHP listens", async || gateway.get("/x").await.status == 401).await;
    let anonymous = gateway.send(Via::Http2, Request::events("/mine")).await;
    assert_eq!(anonymous.status, 401);
    let login = gateway.send(Via::Http2, Request::get("/login?user=42")).await;
    let mut cookies = login.headers.get_all("set-cookie").iter();
    let session =
        cookies.next_back().and_then(|value| value.to_str().ok()).expect("a session").to_owned();
    let session = session.split(';').next().unwrap().to_owned();
    let mut stream = gateway
        .send(Via::Http2, Request::events("/mine").header("cookie", &session))
        .await
        .stream();
    stream.ready().await;
    redis.publish("user:42", "private").await;
    assert_eq!(stream.next_event().await.data, "private");
    let bye = gateway.send(Via::Http2, Request::get("/logout").header("cookie", &session)).await;
    assert_eq!(bye.status, 200);
    stream.end().await.expect("it ends at its next recheck");
    let again = gateway.send(Via::Http2, Request::events("/mine").header("cookie", &session)).await;
    assert_eq!(again.status, 401);
}

/// What Laravel's `/broadcasting/auth` responds: user 1 may have `private-orders.1`.
const LARAVEL: &str = r#"<?php
$name = $_GET['channel_name'] ?? '';
session_start(['read_and_close' => true]);
$user = $_COOKIE['user'] ?? null;
header('Content-Type: application/json');
if (isset($_COOKIE['broken'])) { return; }
if ($user !== null && $name === "private-orders.$user") { echo 'true'; }
elseif ($user !== null && $name === 'presence-room') { echo json_encode(['channel_data' => ['user_id' => $user]]); }
else { http_response_code(403); echo json_encode(['message' => 'This action is unauthorized.']); }
"#;

#[tokio::test]
#[ignore = "needs php-cli: run by tests/run"]
async fn laravels_broadcasting_auth_is_asked_for_each_private_channel() {
    let (redis, dir) = (Redis::start().await, TempDir::new().unwrap());
    let (_php, port) = php(&dir, LARAVEL);
    let gateway = Gateway::build(&redis)
        .routes(&format!(
            "- path: /events\n  events: {{ channels: [\"{{query.channel}}\"], format: laravel, strip_prefix: app_database_ }}\n  \
             auth: {{ forward: {{ url: \"http://127.0.0.1:{port}/broadcasting/auth\", preset: laravel, timeout: 60s }} }}\n"
        ))
        .start()
        .await;
    let ask = |cookie: &str, channels: &str| {
        gateway.send(
            Via::Http2,
            Request::events(&format!("/events?channel={channels}")).header("cookie", cookie),
        )
    };
    // Not 200, which is also the status of "not now".
    eventually(SOON, "PHP listens", async || ask("x=y", "private-orders.1").await.status == 403)
        .await;
    for (cookie, channels, status) in [
        ("user=1", "private-orders.1&channel=news", 200),
        ("user=1", "presence-room&channel=private-orders.1", 200),
        ("user=1", "private-orders.2", 403),
        ("user=1", "private-orders.1&channel=private-orders.2", 403),
        ("x=y", "private-orders.1", 403),
        ("x=y", "news", 200),
        // The broadcaster `null` responds 200 to everybody, without a body.
        ("user=1; broken=1", "private-orders.1", 403),
    ] {
        assert_eq!(ask(cookie, channels).await.status, status, "{cookie} {channels}");
    }
    let mut stream = ask("user=1", "private-orders.1").await.stream();
    stream.ready().await;
    let payload = r#"{"event":"Shipped","data":{"id":7},"socket":null}"#;
    redis.publish("app_database_private-orders.1", payload).await;
    let event = stream.next_event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("Shipped", "{\"id\":7}"));
}

/// Opens streams after one as a warm-up. Returns how many bytes each of them takes, and the streams.
async fn bytes_of_a_stream(gateway: &Gateway, target: &str) -> (u64, Vec<EventStream>) {
    const STREAMS: u64 = 500;
    let open = async || {
        let mut stream = gateway.send(Via::Http1, of("42", target)).await.stream();
        stream.ready().await;
        stream
    };
    let mut streams = vec![open().await];
    let before = gateway.anonymous_bytes();
    for _ in 0..STREAMS {
        streams.push(open().await);
    }
    (gateway.anonymous_bytes().saturating_sub(before) / STREAMS, streams)
}

#[tokio::test]
async fn a_stream_that_is_asked_about_again_does_not_keep_its_request() {
    let (redis, judge) = (Redis::start().await, Judge::start().await);
    let port = judge.port;
    let gateway = Gateway::build(&redis)
        .routes(&format!(
            "- {{ path: /open, events: {{ channels: [news] }} }}\n\
             - {{ path: /asked, events: {{ channels: [news] }}, auth: {{ forward: {{ \
             url: \"http://127.0.0.1:{port}/auth\", copy_headers: [x-user], cache: 5m }} }} }}\n"
        ))
        .start()
        .await;
    let (open, _open_streams) = bytes_of_a_stream(&gateway, "/open").await;
    let (asked, _asked_streams) = bytes_of_a_stream(&gateway, "/asked").await;
    measured(&format!("{open} bytes for each stream, {asked} if it is asked about again"));
    // The buffer that its request was read into alone has 8 KiB.
    assert!(asked < open + (8 << 10), "{open} {asked}");
}
