//! The ways to reach Redis: TLS, a unix socket, a user with a password, another database.

use crate::support::{Gateway, Pem, Redis, Relay, SOON, free_port};

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

    let other = tempfile::TempDir::new().unwrap();
    let other = Pem::write(other.path());
    let distrusting = Gateway::build(&redis).redis_url(&url);
    let distrusting = distrusting.env("SSL_CERT_FILE", &path(&other.authority)).start().await;
    distrusting.counts("ssegate_redis_errors_total", &[], 1.0).await;
    assert_eq!(distrusting.readiness().await, 503);
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
