//! A Cluster of a node that accepts connections and never replies, and one that replies.

use bytes::BytesMut;
use redis::{ConnectionAddr, RedisConnectionInfo};
use ssegate_resp::{Limits, Value, ValueDecoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::super::location::{ClusterAddress, RedisLocation};
use super::super::server::RedisServer;
use super::super::socket::CONNECT_TIMEOUT;
use super::ClusterWatch;
use crate::health::Health;
use crate::metrics::Metrics;

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// Accepts connections, and keeps them without a reply.
async fn hang(listener: TcpListener) {
    let mut connections = Vec::new();
    while let Ok((connection, _)) = listener.accept().await {
        connections.push(connection);
    }
}

/// Says of these two ports that each owns one half of the slots. Passes on that it was asked.
async fn serve(listener: TcpListener, owners: [u16; 2], asked: mpsc::Sender<()>) {
    while let Ok((connection, _)) = listener.accept().await {
        spawn_local(reply(connection, owners, asked.clone()));
    }
}

async fn reply(mut connection: TcpStream, owners: [u16; 2], asked: mpsc::Sender<()>) {
    let range = |first: u16, port| format!("*3\r\n:{first}\r\n:{}\r\n{}", first + 8191, node(port));
    let slots = format!("*2\r\n{}{}", range(0, owners[0]), range(8192, owners[1]));
    let (mut input, mut decoder) = (BytesMut::new(), ValueDecoder::new(Limits::with_max_bulk(99)));
    while connection.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
        while let Ok(Some(Value::Array(words))) = decoder.decode(&mut input) {
            let word = |at: usize| words.get(at).and_then(Value::as_bytes).map(|word| &word[..]);
            let replied = match (word(0), word(1)) {
                (Some(b"HELLO"), _) => "%0\r\n",
                (_, Some(b"INFO")) => "$16\r\ncluster_state:ok\r\n",
                (_, Some(b"SLOTS")) => &slots[..],
                _ => "+PONG\r\n",
            };
            // One that is not needed any more is closed.
            if connection.write_all(replied.as_bytes()).await.is_err() {
                return;
            }
            if word(1) == Some(b"SLOTS") {
                asked.try_send(()).expect("the test waits");
            }
        }
    }
}

fn node(port: u16) -> String {
    format!("*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$2\r\nid\r\n")
}

#[tokio::test]
async fn a_node_that_hangs_delays_no_news_of_who_owns_what() {
    let ((hanging, hung_port), (serving, port)) = (listen().await, listen().await);
    let at = |port| ConnectionAddr::Tcp("127.0.0.1".to_owned(), port);
    let address = ClusterAddress::new(vec![at(hung_port), at(port)]).expect("two nodes");
    let server = RedisServer::new(RedisLocation::cluster(address, RedisConnectionInfo::default()));
    let (health, metrics) = (Health::default(), Metrics::new().expect("metrics"));
    let watch = ClusterWatch::new(&server, &health, &metrics).expect("a Cluster");
    let cluster = server.cluster().expect("a Cluster");
    let (sender, mut asked) = mpsc::channel(1000);
    let test = async {
        spawn_local(hang(hanging));
        spawn_local(serve(serving, [hung_port, port], sender));
        spawn_local(watch.run());
        // Less than one look at the node that hangs, which is the first one and an owner.
        for what in ["it is asked first", "it is looked at meanwhile"] {
            timeout(CONNECT_TIMEOUT, asked.recv()).await.expect(what).expect("it runs");
            cluster.outdate();
        }
        assert_eq!(cluster.owner(0), Some(at(hung_port)));
        // It asks again, and looks again, until the node can be used.
        while !cluster.is_down(0) {
            asked.recv().await.expect("it runs");
        }
        assert!(!cluster.is_down(16_383));
    };
    LocalSet::new().run_until(test).await;
}
