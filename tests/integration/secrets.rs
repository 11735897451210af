//! What is secret stays so: planted tokens, cookies and passwords are looked for in everything that
//! the gateway writes: its log, at the level of debugging and below, and its access log.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Gateway, Http2, Redis, Request, Response, SOON, TlsClient, Upstream, Via, free_port, within,
};

/// Each is planted in another place.
const PLANTED: [(&str, &str); 13] = [
    ("redis password", "planted-redis-password"),
    ("handover key", "planted-handover-key-of-32-bytes-and-more"),
    ("authorization", "planted-authorization"),
    ("cookie", "planted-cookie"),
    ("api key", "planted-api-key"),
    ("query", "planted-query-token"),
    ("last event id", "planted-last-event-id"),
    ("body", "planted-body"),
    ("user in a host", "planted-user:planted"),
    ("set-cookie", "planted-set-cookie"),
    ("event", "planted-event-data"),
    ("bad configuration", "planted-other-secret"),
    ("variable", "planted-variable"),
];

fn planted(place: &str) -> &'static str {
    let found = PLANTED.iter().find(|(name, _)| *name == place);
    found.unwrap_or_else(|| panic!("nothing is planted as {place}")).1
}

fn assert_clean(text: &str, place: &str) {
    for (name, secret) in PLANTED {
        assert!(!text.contains(secret), "the {name} stands in {place}:\n{text}");
    }
}

/// A request that has everything secret in it.
fn loaded(method: &str, target: &str) -> Request {
    let target = format!("{target}?token={}&access_token={0}", planted("query"));
    Request::new(method, &target)
        .header("authorization", &format!("Bearer {}", planted("authorization")))
        .header("cookie", &format!("session={}", planted("cookie")))
        .header("x-api-key", planted("api key"))
        .header("last-event-id", planted("last event id"))
}

/// A response of the gateway's own says nothing of the request that is secret.
async fn clean_response(response: Response, what: &str) {
    let headers = format!("{:?}", response.headers);
    assert_clean(&headers, what);
    assert_clean(&response.text().await, what);
}

/// Bytes that no client would send.
async fn raw(gateway: &Gateway, request: &str) {
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(within(SOON, "an end", socket.read_to_end(&mut answer)).await);
    assert_clean(&String::from_utf8_lossy(&answer), "an answer to nonsense");
}

#[tokio::test]
async fn planted_secrets_come_out_nowhere() {
    nothing_planted_comes_out("debug").await;
}

#[tokio::test]
async fn planted_secrets_come_out_nowhere_however_much_is_logged() {
    nothing_planted_comes_out("trace").await;
}

async fn nothing_planted_comes_out(level: &str) {
    let redis = Redis::start().await;
    let password = planted("redis password");
    let user = ["ACL", "SETUSER", "u", "on", &format!(">{password}"), "allcommands", "&*"];
    redis.command::<String>(&user).await;
    let upstream = Upstream::start().await;
    let backend = upstream.route("/backend/{*rest}");
    let handover = format!("  handover: {{ key: \"{}\" }}\n", planted("handover key"));
    let dead = format!(
        "- path: /dead/{{*rest}}\n  proxy: {{ upstream: \"http://127.0.0.1:{}\" }}\n",
        free_port()
    );
    let mut gateway = Gateway::build(&redis)
        .redis_url(&format!("redis://u:{password}@127.0.0.1:{}", redis.port()))
        .settings("limits: { uri: 200, body: 1KiB }\ndrain: 1s\nlog: { access: all }")
        .env("SSEGATE_LOG", level)
        .env("SECRET", planted("variable"))
        .route(&backend)
        .route(&handover)
        .route(&dead)
        .start()
        .await;

    for via in Via::ALL {
        // A stream, and a way back.
        let mut stream = gateway.send(via, loaded("GET", "/events/news")).await.stream();
        // After the gap: nobody knows this id.
        while !stream.next_block().await.comments.iter().any(|comment| comment == "ready") {}
        redis.publish("news", planted("event")).await;
        while !stream.next_event().await.data.contains(planted("event")) {}
        drop(stream);
        // A backend that answers, one that breaks off, one that is not there.
        let body = planted("body").as_bytes();
        let set_cookie = format!("set-cookie: {}\r\n", planted("set-cookie"));
        let (response, ()) =
            tokio::join!(gateway.send(via, loaded("POST", "/backend/a").body(body)), async {
                upstream.call().await.answer("200 OK", &set_cookie, planted("body")).await;
            });
        assert_eq!(response.text().await, planted("body"), "what is passed on is passed on");
        let (response, ()) =
            tokio::join!(gateway.send(via, loaded("POST", "/backend/b").body(body)), async {
                upstream.call().await.write(format!("HTTP/1.1 nonsense {set_cookie}\r\n")).await;
            });
        clean_response(response, "502").await;
        clean_response(gateway.send(via, loaded("POST", "/dead/x").body(body)).await, "502").await;
        // Everything that the gateway itself refuses.
        clean_response(gateway.send(via, loaded("GET", "/nowhere")).await, "404").await;
        clean_response(gateway.send(via, loaded("DELETE", "/events/news")).await, "405").await;
        clean_response(gateway.send(via, loaded("GET", "/events/__keyspace@0__:x")).await, "400")
            .await;
        let long = loaded("GET", &format!("/events/{}", "x".repeat(200)));
        clean_response(gateway.send(via, long).await, "414").await;
        let large =
            loaded("POST", "/backend/c").body(&[planted("body"); 200].concat().into_bytes());
        clean_response(gateway.send(via, large).await, "413").await;
    }
    let fields = format!(
        "authorization: Bearer {}\r\ncookie: {}\r\n",
        planted("authorization"),
        planted("cookie")
    );
    let user = planted("user in a host");
    for request in [
        format!("GET /events/news HTTP/1.1\r\nhost: {user}@localhost\r\n{fields}\r\n"),
        format!("GET /events/news HTTP/1.1\r\nhost: a\r\nhost: b\r\n{fields}\r\n"),
        format!("GET /events/news HTTP/1.1\r\n{fields}bad header: {}\r\n\r\n", planted("cookie")),
        format!("GET /?{} HTTP/9.9\r\n{fields}\r\n", planted("query")),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}x: {}\r\n\r\n", "x".repeat(100_000)),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}transfer-encoding: gzip, chunked\r\n\r\n"),
    ] {
        raw(&gateway, &request).await;
    }
    // A handshake that fails, a client that leaves.
    drop(TlsClient::offering(&["h2"]).only_hello(gateway.address("https")).await.unwrap());
    let connection = Http2::connect(Via::Http2, gateway.address("https")).await;
    drop(connection.send(loaded("GET", "/events/news")).await);

    // A configuration that cannot be used, and Redis gone.
    gateway.rewrite(|text| {
        let other = planted("bad configuration");
        let text = text.replace(&format!("{password}@127.0.0.1"), &format!("{other}@ho st/no/db"));
        let text = text.replace(planted("handover key"), &other[..20]);
        // A variable where it does not belong.
        text.replace("drain: 1s", "drain: soon\nshards: ${SECRET}\nmax_event_bytes: \"${SECRET}k\"")
    });
    assert!(!gateway.reload().await);
    redis.command::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    gateway.counts("ssegate_redis_reconnects_total", &[], 1.0).await;

    for page in ["/metrics", "/readyz?verbose", "/", "/nothing"] {
        let target = format!(
            "{page}{}token={}",
            if page.contains('?') { '&' } else { '?' },
            planted("query")
        );
        clean_response(gateway.admin(&target).await, page).await;
    }
    gateway.terminate();
    gateway.exit_within(SOON).await;
    let log = gateway.log();
    for told in [
        "\"level\":\"DEBUG\"",
        "\"key\":\"redis.url\"",
        "\"key\":\"routes[2].handover.key\"",
        "this is the value of ${SECRET}",
        "a value with ${SECRET} is not a size",
    ] {
        assert!(log.contains(told), "{told} in {log}");
    }
    assert_clean(&log, "the log");
}

/// Every file below, and whether it may be written to.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn it_writes_to_its_state_directory_only_and_needs_no_root() {
    let redis = Redis::start().await;
    // Nobody in particular: no user of this machine, no capability.
    const NOBODY: [&str; 8] = [
        "setpriv",
        "--reuid=64000",
        "--regid=64000",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
        "--",
    ];
    let words: &[&str] = if rustix::process::geteuid().is_root() { &NOBODY } else { &[] };
    let state = tempfile::tempdir().unwrap();
    std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let gateway = Gateway::build(&redis)
        .under(words)
        .env("STATE_DIRECTORY", state.path().to_str().unwrap())
        .start()
        .await;
    let mut stream = gateway.subscribe_via(Via::Http2, "/events/news").await;
    redis.publish("news", "hello").await;
    assert_eq!(stream.next_event().await.data, "hello");
    assert!(gateway.reload().await);

    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(!line("Uid:").contains("\t0"), "{status}");
    assert_eq!(line("CapEff:").trim_start_matches("CapEff:\t"), "0000000000000000");
    let in_its_own = files_below(gateway.dir());
    assert_eq!(in_its_own, [gateway.dir().join("gateway.yaml")], "nothing beside its file");
    // What it opened to write: its log, and nothing else that is a file.
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap();
    for file in open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()) {
        assert!(!file.is_file() || file.starts_with("/proc"), "{}", file.display());
    }
    let mut kept = files_below(state.path());
    kept.sort();
    let names: Vec<_> =
        kept.iter().map(|file| file.extension().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["crt", "key", "sock"], "{kept:?}");
    for file in kept {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{file:?}");
    }
}
