//! What a connection of HTTP/2 holds for what it sends.

use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::support::frames::{DATA, END_STREAM, WINDOW_UPDATE};
use crate::support::{
    Frame, FrameConnection, Gateway, Redis, SOON, Site, TlsClient, Via, measured, within,
};

/// The client's windows are never what a response waits for.
const WINDOW: u32 = (1 << 31) - 1;

/// A connection with a small receive buffer: the gateway's socket is full again and again, and takes
/// a part of what is written.
async fn narrow(gateway: &Gateway, via: Via) -> FrameConnection {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let tcp = socket.connect(gateway.address_for(via)).await.unwrap();
    FrameConnection::over(match via {
        Via::H2c => Box::new(tcp),
        _ => Box::new(TlsClient::offering(&["h2"]).handshake(tcp).await.unwrap()),
    })
}

/// Reads a body to its end, as fast as it comes; returns its length, and the most memory that the
/// gateway had meanwhile.
async fn download(gateway: &Gateway, via: Via, path: &str) -> (usize, u64) {
    let mut connection = narrow(gateway, via).await;
    connection.greet(&[(4, WINDOW)]).await;
    let more = (WINDOW - 65_535).to_be_bytes();
    connection.send_all([Frame::new(WINDOW_UPDATE, 0, 0, &more), Frame::get(1, path)]).await;
    let (mut length, mut most, mut looked) = (0, 0, 0);
    let whole = async {
        loop {
            let frame = connection.next_of(DATA).await.expect("closed in a body");
            length += frame.payload.len();
            if length >= looked {
                looked = length + (1 << 20);
                most = most.max(gateway.resident_bytes());
            }
            if frame.flags & END_STREAM != 0 {
                return;
            }
        }
    };
    within(4 * SOON, "a body", whole).await;
    (length, most)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_takes_no_more_memory_the_longer_it_lasts_whatever_send_buffer_is() {
    const LENGTH: usize = 12 << 20;
    let redis = Redis::start().await;
    let short = Site::start("short").await;
    let long = Site::start(Box::leak("x".repeat(LENGTH).into_boxed_str())).await;
    // From the least that is legal to the most, and what lies between.
    for send_buffer in ["4KiB", "5000", "16KiB", "64KiB", "1MiB", "1073741823"] {
        let gateway = Gateway::build(&redis)
            .settings(&format!("sockets: {{ send_buffer: {send_buffer} }}"))
            .routes(&format!("{}{}", short.route("/short"), long.route("/long")))
            .start()
            .await;
        for via in [Via::H2c, Via::Http2] {
            let (_, before) = download(&gateway, via, "/short").await;
            let begun = Instant::now();
            let (length, most) = download(&gateway, via, "/long").await;
            assert_eq!(length, LENGTH);
            let grown = most.saturating_sub(before);
            let took = begun.elapsed();
            measured(&format!("{send_buffer} {via:?}: {} KiB more, {took:?}", grown >> 10));
            assert!(grown < 4 << 20, "{send_buffer} over {via:?}: {} KiB more", grown >> 10);
        }
    }
}
