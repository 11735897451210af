//! Tickets of TLS: who comes back is spared the handshake, until the key of its ticket is gone.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Gateway, Redis, SOON, TlsClient, localhost};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A client that keeps its tickets.
#[derive(Clone)]
struct Client(Arc<ClientConfig>);

impl Client {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        Self(TlsClient::offering(&["http/1.1"]).version(version).config())
    }

    /// Asks for something; answers whether it was spared the handshake.
    async fn is_spared(&self, to: SocketAddr) -> bool {
        let tcp = TcpStream::connect(to).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let mut tls = connector.connect(localhost(), tcp).await.unwrap();
        let request = b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        tls.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 404"));
        tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

#[tokio::test]
async fn a_ticket_outlives_a_reload_and_costs_a_handshake_after_a_takeover() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::build(&redis).settings("drain: 1s").start().await;
    let https = gateway.address("https");
    let clients = VERSIONS.map(Client::new);
    for client in &clients {
        assert!(!client.is_spared(https).await, "it comes for the first time");
        assert!(client.is_spared(https).await && client.is_spared(https).await);
    }
    gateway.rewrite(|text| format!("limits: {{ connections: 1010 }}\n{text}"));
    assert!(gateway.reload().await);
    for client in &clients {
        assert!(client.is_spared(https).await, "the keys stay");
    }
    let new = gateway.successor().await;
    gateway.exit_within(SOON).await;
    for client in &clients {
        assert!(!client.is_spared(https).await, "the keys have not left their process");
        assert!(client.is_spared(https).await, "and there are new ones");
    }
    assert_eq!(new.metrics().await.sum("ssegate_tls_handshake_failures_total", &[]), 0.0);
}

/// Each key makes tickets for six hours, and is known for six more.
#[tokio::test]
#[ignore = "needs libfaketime of the package faketime: run by tests/run"]
async fn the_keys_of_tickets_rotate() {
    let redis = Redis::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let clock = dir.path().join("clock");
    let hours = |hours: u32| std::fs::write(&clock, format!("+{}s", hours * 3600)).unwrap();
    hours(0);
    let gateway = Gateway::build(&redis).with_clock(&clock).start().await;
    let https = gateway.address("https");
    // A clock that goes back would not bring a key back: the second version begins where the first
    // has ended, and not when a key is to be replaced just then, perhaps between two clients.
    for (version, start) in VERSIONS.into_iter().zip([0, 24]) {
        hours(start);
        let [soon, late] = [Client::new(version), Client::new(version)];
        for client in [&soon, &late] {
            assert!(!client.is_spared(https).await);
        }
        hours(start + 7);
        assert!(soon.is_spared(https).await, "{version:?}: the key before is known");
        hours(start + 14);
        assert!(!late.is_spared(https).await, "{version:?}: that key is gone");
    }
}
