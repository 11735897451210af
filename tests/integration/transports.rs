//! The same stream over HTTP/1.1, HTTP/2, TLS 1.2, TLS 1.3 and clear text.

use rustls::version::{TLS12, TLS13};

use crate::support::{
    Gateway, Http2, Pem, Program, Redis, Request, SOON, TlsClient, Via, eventually, read_head,
};

#[tokio::test]
async fn an_event_arrives_over_every_protocol() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut streams = Vec::new();
    for via in Via::ALL {
        streams.push(gateway.subscribe_via(via, "/events/news").await);
    }

    assert_eq!(redis.publish("news", "hello").await, 1, "one gateway listens");
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "hello");
    }
}

#[tokio::test]
async fn alpn_prefers_http2_and_falls_back() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let offers: [(&[&str], Option<&[u8]>); 4] = [
        (&["h2", "http/1.1"], Some(b"h2")),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ];
    for (offered, chosen) in offers {
        let tls = TlsClient::offering(offered).connect(gateway.address("https")).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
    }
}

#[tokio::test]
async fn tls_1_2_and_1_3_carry_streams() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let address = gateway.address("https");
    for version in [&TLS12, &TLS13] {
        let tls = TlsClient::offering(&["h2"]).version(version).connect(address).await.unwrap();
        assert_eq!(tls.get_ref().1.protocol_version(), Some(version.version));
        let connection = Http2::handshake(Box::new(tls), true, address).await;
        let mut stream = connection.send(Request::events("/events/news")).await.stream();
        stream.ready().await;
        redis.publish("news", "hello").await;
        assert_eq!(stream.next_event().await.data, "hello");
    }
}

#[tokio::test]
async fn http_1_0_gets_a_stream_without_chunks() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut io = Via::Http1.connect(gateway.address("http")).await;
    let request = b"GET /events/news HTTP/1.0\r\nhost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut io, request).await.unwrap();
    let response = read_head(io, false).await;
    assert_eq!(response.header("transfer-encoding"), "");
    let mut stream = response.stream();
    stream.ready().await;
    redis.publish("news", "hello").await;
    assert_eq!(stream.next_event().await.data, "hello");
}

#[tokio::test]
async fn one_connection_carries_256_streams() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let connection = Http2::connect(Via::Http2, gateway.address("https")).await;
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(connection.send(Request::events("/events/news")).await.stream());
    }
    for stream in &mut streams {
        stream.ready().await;
    }

    redis.publish("news", "hello").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "hello");
    }
    let open = gateway.metrics().await;
    assert_eq!(open.sum("ssegate_streams", &["protocol=\"h2\""]), 256.0);
}

#[tokio::test]
async fn a_stream_that_is_left_closes_nothing_but_itself() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let connection = Http2::connect(Via::Http2, gateway.address("https")).await;
    let left = connection.send(Request::events("/events/news")).await.stream();
    let mut kept = connection.send(Request::events("/events/news")).await.stream();
    kept.ready().await;
    drop(left);

    let one = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 1.0;
    eventually(SOON, "one stream is left", one).await;
    redis.publish("news", "hello").await;
    assert_eq!(kept.next_event().await.data, "hello");
}

#[tokio::test]
async fn a_local_certificate_is_made_once_and_kept_in_the_state_directory() {
    let redis = Redis::start().await;
    let state = tempfile::TempDir::new().unwrap();
    let home = state.path().to_str().unwrap();
    let mut served = Vec::new();
    for _ in 0..2 {
        let gateway = Gateway::build(&redis).env("XDG_STATE_HOME", home).start().await;
        served.push(certificate(&gateway).await);
    }
    assert_eq!(served[0], served[1]);
}

#[tokio::test]
async fn certificates_from_files_are_served_and_renewed_without_a_restart() {
    let redis = Redis::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let first = Pem::write(dir.path());
    let tls = format!(
        "{{ certificate: \"{}\", key: \"{}\" }}",
        first.certificate.display(),
        first.key.display()
    );
    let gateway = Gateway::build(&redis).tls(&tls).start().await;
    assert_eq!(certificate(&gateway).await, first.der);
    let mut stream = gateway.subscribe_via(Via::Http2, "/events/news").await;

    let second = Pem::write(dir.path());
    let renewed = async || certificate(&gateway).await == second.der;
    eventually(2 * SOON, "the new certificate is served", renewed).await;
    redis.publish("news", "hello").await;
    assert_eq!(stream.next_event().await.data, "hello", "open streams stay");
}

#[tokio::test]
async fn a_new_certificate_that_cannot_be_used_changes_nothing() {
    let redis = Redis::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    let tls = format!(
        "{{ certificate: \"{}\", key: \"{}\" }}",
        pem.certificate.display(),
        pem.key.display()
    );
    let gateway = Gateway::build(&redis).tls(&tls).start().await;

    std::fs::write(&pem.certificate, "-----BEGIN CERTIFICATE-----\nhalf").unwrap();
    gateway.logs("cannot reload the certificate").await;
    assert_eq!(certificate(&gateway).await, pem.der);
}

/// The certificate that the gateway shows.
async fn certificate(gateway: &Gateway) -> Vec<u8> {
    let tls = TlsClient::offering(&["h2"]).connect(gateway.address("https")).await.unwrap();
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn http_in_clear_text_on_a_port_of_tls_is_told_so_with_a_400() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let url = format!("http://{}/events/news", gateway.address("https"));
    let curl = Program::new("curl").args(["-sS", "-i", &url]);
    let output = curl.output(SOON).await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(output.stdout.starts_with("HTTP/1.1 400 Bad Request"), "{output:?}");
    assert!(output.stdout.ends_with("use https:// in the URL."), "{output:?}");
    let reason = ["reason=\"protocol\""];
    gateway.counts("ssegate_tls_handshake_failures_total", &reason, 1.0).await;
}
