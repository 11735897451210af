//! Names and passwords: hashes of other programs, what browsers and curl send, and guesses that hold nobody up.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    EventStream, Gateway, GatewayBuilder, Program, Redis, Request, SOON, Via, measured,
};

// htpasswd -nbB -C 5 alice 'correct horse'; htpasswd -nbB -C 4 ümlaut 'pässwörd'
const USERS: &str = "\
alice:$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve
ümlaut:$2y$04$daHo4uCpBxSytCTMhwaF1eOfXJ1gaEsO9s6ma4YqZmj4EMV6jfQGS
";

/// A gateway, and the directory with its file of users.
fn with_users(redis: &Redis, users: &str) -> (GatewayBuilder, TempDir) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("users.htpasswd");
    std::fs::write(&file, users).unwrap();
    let auth = format!("auth: {{ basic: {{ users: {}, realm: a b }} }}", file.display());
    let routes = "- { path: /mine, events: { channels: [\"user:{auth.id}\"] } }\n\
                  - { path: /open, events: { channels: [news] }, auth: off }\n";
    (Gateway::build(redis).settings(&auth).routes(routes), dir)
}

fn log_in(request: Request, name: &str, password: &str) -> Request {
    let text = BASE64_STANDARD.encode(format!("{name}:{password}"));
    request.header("authorization", &format!("Basic {text}"))
}

#[tokio::test]
async fn a_user_of_the_file_may_listen_and_others_are_told_the_realm() {
    let redis = Redis::start().await;
    let (builder, dir) = with_users(&redis, USERS);
    let gateway = builder.start().await;
    for via in Via::ALL {
        for (name, password) in [
            ("alice", "wrong"),
            ("alice", ""),
            ("Alice", "correct horse"),
            ("nobody", "correct horse"),
            ("", ""),
        ] {
            let request = log_in(Request::events("/mine"), name, password);
            let refused = gateway.send(via, request).await;
            assert_eq!(refused.status, 401, "{name}");
            let challenge = refused.header("www-authenticate");
            assert_eq!(challenge, "Basic realm=\"a b\", charset=\"UTF-8\"");
        }
        for other in ["", "Basic", "Basic !", "Bearer x"] {
            let request = Request::events("/mine").header("authorization", other);
            assert_eq!(gateway.send(via, request).await.status, 401, "{other}");
        }
        for (name, password) in [("alice", "correct horse"), ("ümlaut", "pässwörd")] {
            let request = log_in(Request::events("/mine"), name, password);
            let mut stream = gateway.send(via, request).await.stream();
            stream.ready().await;
            redis.publish(&format!("user:{name}"), "yours").await;
            assert_eq!(stream.next_event().await.data, "yours");
            // A browser sends them for the page of another site, too.
            let request = log_in(Request::events("/mine"), name, password);
            let foreign = request.header("origin", "https://evil.example");
            assert_eq!(gateway.send(via, foreign).await.status, 403);
        }
    }
    // A reload reads the file again.
    let file = dir.path().join("users.htpasswd");
    std::fs::write(&file, USERS.replace("alice", "bob")).unwrap();
    assert!(gateway.reload().await);
    for (name, status) in [("alice", 401), ("bob", 200)] {
        let request = log_in(Request::events("/mine"), name, "correct horse");
        assert_eq!(gateway.send(Via::Http2, request).await.status, status, "{name}");
    }
    std::fs::write(&file, "alice:plain\n").unwrap();
    assert!(!gateway.reload().await);
    gateway.logs("line 1: the password is stored as plain text").await;
}

#[tokio::test]
#[ignore = "needs php-cli, apache2-utils and curl: run by tests/run"]
async fn hashes_of_htpasswd_and_php_let_curl_in() {
    let redis = Redis::start().await;
    let password = "pässwörd: with a colon";
    let htpasswd = Program::new("htpasswd").args(["-nbB", "-C", "5", "htpasswd", password]);
    let mut users = htpasswd.output(SOON).await.success();
    for (name, kind) in [
        ("bcrypt", "PASSWORD_BCRYPT, [\"cost\" => 5]"),
        ("argon2id", "PASSWORD_ARGON2ID, [\"memory_cost\" => 1024, \"time_cost\" => 2]"),
    ] {
        let code = format!("echo password_hash($argv[1], {kind});");
        let php = Program::new("php").args(["-r", &code, "--", password]);
        users.push_str(&format!("\n{name}:{}", php.output(SOON).await.success()));
    }
    let (builder, _dir) = with_users(&redis, &users);
    let gateway = builder.start().await;
    let url = format!("http://{}/mine", gateway.address("http"));
    for name in ["htpasswd", "bcrypt", "argon2id"] {
        for (password, status) in [(password, "200"), ("wrong", "401")] {
            let user = format!("{name}:{password}");
            // With HEAD the stream does not have to be ended by a time.
            let curl = ["-sI", "-o", "/dev/null", "-w", "%{http_code}", "-u", &user, &url];
            let curl = Program::new("curl").args(curl).output(SOON).await;
            assert_eq!(curl.stdout, status, "{user}");
        }
    }
}

/// The time from publishing to receiving that nine of ten events keep.
async fn latency(redis: &Redis, stream: &mut EventStream) -> Duration {
    let mut latencies = Vec::new();
    for _ in 0..100 {
        let published = Instant::now();
        redis.publish("news", "hello").await;
        stream.next_event().await;
        latencies.push(published.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    latencies.sort();
    latencies[90]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_guesses_delays_no_event() {
    let redis = Redis::start().await;
    // A hash that takes a good part of a second.
    let slow = "alice:$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve\n\
                slow:$2y$12$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve\n";
    let (builder, _dir) = with_users(&redis, slow);
    // All of it on one core.
    let gateway = builder.under(&["taskset", "-c", "0"]).start().await;
    let mut stream = gateway.subscribe("/open").await;
    let alice = || log_in(Request::events("/mine"), "alice", "correct horse");
    assert_eq!(gateway.send(Via::Http1, alice()).await.status, 200);
    let quiet = latency(&redis, &mut stream).await;

    let address = gateway.address("http");
    let mut guessers = JoinSet::new();
    for guesser in 0..80 {
        guessers.spawn(async move {
            for guess in 0.. {
                let request = log_in(Request::get("/mine"), "slow", &format!("{guesser} {guess}"));
                let limit = Duration::from_secs(600);
                let response = request.send_within(limit, Via::Http1, address).await;
                assert!(matches!(response.status, 401 | 429), "{}", response.status);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    gateway
        .counts("ssegate_http_requests_rejected_total", &["reason=\"passwords_busy\""], 1.0)
        .await;
    let flooded = latency(&redis, &mut stream).await;
    measured(&format!("nine of ten events within {quiet:?}, while guesses flood {flooded:?}"));
    // One hash takes a quarter of a second or more.
    assert!(flooded <= 5 * quiet.max(Duration::from_millis(20)), "{flooded:?} and {quiet:?}");

    // Whoever is known is let in at once; others are told to come again.
    assert_eq!(gateway.send(Via::Http1, alice()).await.status, 200);
    let other = || log_in(Request::events("/mine"), "slow", "correct horse");
    let mut told = String::new();
    for _ in 0..100 {
        let away = gateway.send(Via::Http1, other());
        match tokio::time::timeout(Duration::from_millis(200), away).await {
            Ok(response) => {
                told = response.stream().sent_away().await.0;
                break;
            }
            // It found room, and waits: it leaves, and the next one tries.
            Err(_elapsed) => {}
        }
    }
    assert!(told.contains("too many passwords"), "{told}");
    guessers.abort_all();
}
