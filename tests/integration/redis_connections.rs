//! The ways to reach Redis: TLS, a unix socket, a user with a password, another database, a service that somebody else
//! runs.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Gateway, Pem, Program, Redis, Relay, Request, SOON, Via, eventually, free_port,
};

/// Subscribes, publishes, and sees it arrive.
async fn assert_delivers(gateway: &Gateway, redis: &Redis) {
    let mut stream = gateway.subscribe("/events/news").await;
    assert_eq!(redis.publish("news", "hello").await, 1);
    assert_eq!(stream.next_event().await.data, "hello");
}

#[tokio::test]
async fn over_tls_with_a_certificate_that_the_system_trusts() {
    let dir = tempfile::TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let port = free_port();
    let redis = Redis::with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path(&pem.certificate),
        "--tls-key-file",
        &path(&pem.key),
        "--tls-ca-cert-file",
        &path(&pem.authority),
        "--tls-auth-clients",
        "no",
    ])
    .await;

    let url = format!("rediss://localhost:{port}");
    let trusting = Gateway::build(&redis).redis_url(&url);
    let trusting = trusting.env("SSL_CERT_FILE", &path(&pem.authority)).start().await;
    assert_delivers(&trusting, &redis).await;

    // The wrong scheme, either way.
    let plain =
        Gateway::build(&redis).redis_url(&format!("redis://localhost:{port}")).start().await;
    plain.logs("does this port speak TLS? Then write rediss:// in redis.url").await;
    let url_of_plain = format!("rediss://localhost:{}", redis.port());
    let over_tls = Gateway::build(&redis).redis_url(&url_of_plain).start().await;
    over_tls.logs("does this port speak TLS? If not, write redis:// in redis.url").await;

    let other = tempfile::TempDir::new().unwrap();
    let other = Pem::write(other.path());
    let distrusting = Gateway::build(&redis).redis_url(&url);
    let distrusting = distrusting.env("SSL_CERT_FILE", &path(&other.authority)).start().await;
    distrusting.counts("ssegate_redis_errors_total", &[], 1.0).await;
    assert_eq!(distrusting.readiness().await, 503);
}

#[tokio::test]
async fn without_the_password_that_it_wants() {
    let redis = Redis::start().await;
    redis.command::<String>(&["CONFIG", "SET", "requirepass", "secret"]).await;
    let gateway = Gateway::build(&redis).start().await;
    gateway.logs("put the password in redis.url: redis://:password@host:6379").await;
    let wrong = format!("redis://:wrong@127.0.0.1:{}", redis.port());
    let gateway = Gateway::build(&redis).redis_url(&wrong).start().await;
    gateway.logs("check the user and the password in redis.url").await;
}

#[tokio::test]
async fn over_a_unix_socket() {
    let redis = Redis::start().await;
    let url = format!("redis+unix://{}", redis.socket().display());
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;
    assert_delivers(&gateway, &redis).await;
}

#[tokio::test]
async fn as_a_user_with_a_password() {
    let redis = Redis::start().await;
    let user = ["ACL", "SETUSER", "gateway", "on", ">p@ss/word", "+@pubsub", "+ping", "+hello"];
    let user = [&user[..], &["+client", "&*"]].concat();
    redis.command::<String>(&user).await;
    let port = redis.port();
    let url = format!("redis://gateway:p%40ss%2Fword@127.0.0.1:{port}");
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;
    assert_delivers(&gateway, &redis).await;
    assert!(!gateway.log().contains("p@ss/word") && !gateway.log().contains("p%40ss"));
}

#[tokio::test]
async fn a_channel_that_the_user_may_not_hear_is_counted_and_harms_no_other() {
    let redis = Redis::start().await;
    let user = ["ACL", "SETUSER", "gateway", "on", ">secret", "+@pubsub", "+ping", "+hello"];
    let user = [&user[..], &["+client", "resetchannels", "&news"]].concat();
    redis.command::<String>(&user).await;
    let url = format!("redis://gateway:secret@127.0.0.1:{}", redis.port());
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;

    let _denied = gateway.open("/events/other").await;
    gateway.counts("ssegate_redis_errors_total", &[], 1.0).await;
    assert_delivers(&gateway, &redis).await;
}

#[tokio::test]
async fn a_database_in_the_url_changes_no_channel() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).redis_url(&format!("{}/3", redis.url())).start().await;
    assert_delivers(&gateway, &redis).await;
}

#[tokio::test]
async fn one_connection_serves_all_channels() {
    let redis = Redis::start().await;
    let relay = Relay::to(std::net::SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let url = format!("redis://{}", relay.address());
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;
    for number in 0..50 {
        drop(gateway.subscribe(&format!("/events/c{number}")).await);
    }
    let clients: String = redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    assert_eq!(clients.lines().count(), 1, "{clients}");
    gateway.becomes(200, SOON).await;
}

/// Patterns and plain channels, and Redis Streams.
const ALL_SOURCES: &str = "\
- path: /events
  events: { channels: [\"{query.channel}\"], patterns: true }
- path: /streams
  events: { channels: [\"{query.channel}\"], source: stream }
";

/// Everything that the gateway does with Redis.
async fn assert_does_everything(gateway: &Gateway, redis: &Redis) {
    assert_events_and_streams(gateway, redis).await;
    let agreed = ["result=\"agreed\""];
    gateway.counts("ssegate_redis_self_checks_total", &agreed, 1.0).await;
}

/// Events of channels, patterns and streams, new ones and those of the past.
async fn assert_events_and_streams(gateway: &Gateway, redis: &Redis) {
    gateway.becomes(200, SOON).await;
    let mut events = gateway.subscribe("/events?channel=news&channel=sport:*").await;
    let large = "x".repeat(300_000);
    for (channel, payload) in [("news", "hello"), ("sport:tennis", "15:0"), ("news", &large)] {
        redis.publish(channel, payload).await;
        assert!(events.next_event().await.data == payload, "{channel}");
    }
    let mut stream = gateway.subscribe("/streams?channel=a").await;
    redis.add("a", "1").await;
    let id = stream.next_event().await.id;
    // One that is new while another is waited for.
    let mut other = gateway.subscribe("/streams?channel=b").await;
    redis.add("b", "of b").await;
    assert_eq!(other.next_event().await.data, "of b");
    redis.add_all("a", (2..300).map(|number| number.to_string())).await;
    drop(stream);
    let mut back = gateway.resume(Via::Http2, "/streams?channel=a", &id).await;
    for number in 2..300 {
        assert_eq!(back.next_event().await.data, number.to_string());
    }
}

#[tokio::test]
async fn without_hello_and_with_a_password() {
    let mut redis = Redis::with(&["--rename-command", "HELLO", ""]).await;
    let user = ["ACL", "SETUSER", "gateway", "on", ">secret", "+@all", "&*", "~*"];
    redis.command::<String>(&user).await;
    let url = redis.url().replace("redis://", "redis://gateway:secret@");
    let gateway = Gateway::build(&redis).redis_url(&url).routes(ALL_SOURCES).start().await;
    assert_does_everything(&gateway, &redis).await;

    let wrong = url.replace("secret", "wrong");
    let refused = Gateway::build(&redis).redis_url(&wrong).start().await;
    refused.counts("ssegate_redis_errors_total", &["kind=\"auth\""], 1.0).await;

    redis.kill();
    redis.restart().await;
    redis.command::<String>(&user).await;
    gateway.becomes(200, SOON).await;
    let mut stream = gateway.subscribe("/events?channel=news").await;
    redis.publish("news", "again").await;
    assert_eq!(stream.next_event().await.data, "again");
    assert_eq!(gateway.log().matches("using RESP2").count(), 1, "{}", gateway.log());
}

#[tokio::test]
async fn through_a_proxy_that_hangs_up_on_hello() {
    let redis = Redis::start().await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, port) = (proxy.local_addr().unwrap(), redis.port());
    let passing = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = proxy.accept().await {
            connections.spawn(async move {
                let mut first = [0; 4096];
                let read = near.read(&mut first).await.unwrap_or(0);
                if first[..read].windows(5).any(|word| word == b"HELLO") {
                    return;
                }
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                far.write_all(&first[..read]).await.unwrap();
                // Either end may go first.
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    let url = format!("redis://{address}");
    let gateway = Gateway::build(&redis).redis_url(&url).routes(ALL_SOURCES).start().await;
    assert_does_everything(&gateway, &redis).await;
    passing.abort();
}

/// What managed services refuse, by their documentation, and each command that can be done without.
#[tokio::test]
async fn without_what_managed_services_refuse() {
    let unblock = "Redis streams are read with shorter waits";
    let check = "Redis denies a command of the self-check";
    let run_id = "Redis does not tell its run_id";
    for (service, refused, said) in [
        ("Memorystore", &["CLIENT", "CONFIG", "CLUSTER", "ACL", "MONITOR"][..], &[unblock][..]),
        ("ElastiCache Serverless", &["SELECT", "CONFIG", "INFO"], &[run_id]),
        ("a careful operator's", &["HELLO", "CLIENT", "ROLE", "EVAL", "EVALSHA"], &[]),
        ("one without introspection", &["PUBSUB", "COMMAND", "ROLE"], &[check]),
        ("the strictest", &["HELLO", "CLIENT", "PUBSUB", "INFO"], &[check, run_id]),
    ] {
        let renamed = refused.iter().flat_map(|name| ["--rename-command", name, ""]);
        let redis = Redis::with(&renamed.collect::<Vec<_>>()).await;
        let gateway = Gateway::build(&redis).routes(ALL_SOURCES).start().await;
        assert_events_and_streams(&gateway, &redis).await;
        let result = if said.contains(&check) { "forbidden" } else { "agreed" };
        let result = format!("result=\"{result}\"");
        gateway.counts("ssegate_redis_self_checks_total", &[&result], 1.0).await;
        for said in said {
            gateway.logs(said).await;
        }
        let log = gateway.log();
        for said in said {
            assert_eq!(log.matches(said).count(), 1, "{service}: {said}\n{log}");
        }
        assert!(!log.contains("\"WARN\""), "{service}: {log}");
    }
}

/// Azure and others cut a connection that was idle for some minutes; here it is some seconds.
#[tokio::test]
#[ignore = "needs haproxy: run by tests/run"]
async fn behind_a_balancer_that_cuts_idle_connections() {
    const PROGRAM: &str = "/usr/sbin/haproxy";
    assert!(std::path::Path::new(PROGRAM).exists(), "missing: apt-get install haproxy");
    let (redis, dir, port) = (Redis::start().await, tempfile::TempDir::new().unwrap(), free_port());
    let configuration = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 7s\n timeout server 7s\n\
         listen redis\n bind 127.0.0.1:{port}\n server redis 127.0.0.1:{}\n",
        redis.port()
    );
    std::fs::write(dir.path().join("haproxy.cfg"), configuration).unwrap();
    let _haproxy = Program::new(PROGRAM).args(["-f", "haproxy.cfg", "-db"]).dir(dir.path()).start();
    eventually(SOON, "haproxy listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let url = format!("redis://127.0.0.1:{port}");
    let publish = "- { path: \"/publish/{channel}\", publish: {}, auth: { tokens: [{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }] } }\n";
    let routes = format!("{ALL_SOURCES}{publish}");
    let gateway = Gateway::build(&redis).redis_url(&url).routes(&routes).start().await;
    let mut events = gateway.subscribe("/events?channel=news").await;
    let mut entries = gateway.subscribe("/streams?channel=log").await;
    let publish = async |text: &str| {
        let request = Request::new("POST", "/publish/news").body(text.as_bytes());
        let request = request.header("authorization", "Bearer cron-token");
        gateway.send(Via::Http1, request.header("idempotency-key", text)).await.status
    };
    let clients =
        async |kind: &str| redis.command::<String>(&["CLIENT", "LIST", "TYPE", kind]).await;
    let listening = async || clients("pubsub").await.split(' ').next().unwrap().to_owned();
    let before = listening().await;
    for round in ["1", "2"] {
        assert_eq!(publish(round).await, 200);
        assert_eq!(events.next_event().await.data, round);
        redis.add("log", round).await;
        assert_eq!(entries.next_event().await.data, round);
        eventually(2 * SOON, "the connection that published is cut", async || {
            !clients("normal").await.contains(" cmd=eval")
        })
        .await;
    }
    assert_eq!(listening().await, before, "what listens is not idle");
    assert!(!gateway.log().contains("\"WARN\""), "{}", gateway.log());
    gateway.counts("ssegate_redis_reconnects_total", &[], 0.0).await;
}
