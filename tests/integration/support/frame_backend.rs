//! A backend over HTTP/2 that does exactly what a test tells it, frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE};
use super::{Frame, FrameConnection, SOON, within};

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, section 6.5.2).
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
/// SETTINGS_INITIAL_WINDOW_SIZE.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// A listening socket.
pub(crate) struct FrameBackend {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
}

impl FrameBackend {
    /// Listens.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, accepted: Arc::default() }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A route for everything that leads here, with further keys of `proxy`.
    pub(crate) fn route(&self, more: &str) -> String {
        let upstream = self.address();
        format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{upstream}\", http2: true{more} }}\n"
        )
    }

    /// How many connections were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The next connection. Its preface has been read, and these SETTINGS have been sent.
    pub(crate) async fn accept(&self, settings: &[(u16, u32)]) -> FrameConnection {
        within(SOON, "a connection at the backend", async {
            let (mut socket, _) = self.listener.accept().await.unwrap();
            self.accepted.fetch_add(1, Ordering::SeqCst);
            socket.set_nodelay(true).unwrap();
            let mut preface = [0; 24];
            socket.read_exact(&mut preface).await.unwrap();
            assert_eq!(preface, PREFACE);
            let mut connection = FrameConnection::over(Box::new(socket));
            connection.send(&Frame::of_settings(settings)).await;
            connection
        })
        .await
    }

    /// Takes the next connection, and closes it before it has sent anything on it.
    pub(crate) async fn close_one(&self) {
        let (socket, _) =
            within(SOON, "a connection at the backend", self.listener.accept()).await.unwrap();
        self.accepted.fetch_add(1, Ordering::SeqCst);
        drop(socket);
    }

    /// Serves every connection with `respond` until the test is over: what it returns for the path of a
    /// request is sent on its stream.
    pub(crate) fn serve(
        self,
        settings: &'static [(u16, u32)],
        respond: impl Fn(&str, u32) -> Vec<Frame> + Send + Sync + 'static,
    ) -> Served {
        let (address, accepted) = (self.address(), Arc::clone(&self.accepted));
        let respond = Arc::new(respond);
        let task = tokio::spawn(async move {
            loop {
                let mut connection = self.accept(settings).await;
                let respond = Arc::clone(&respond);
                tokio::spawn(async move {
                    while let Some(head) = connection.next_of(HEADERS).await {
                        connection.send_all(respond(&head.path(), head.stream)).await;
                    }
                });
            }
        });
        Served { address, accepted, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }
}

/// A backend that serves.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Served {
    /// A route for everything that leads here, with further keys of `proxy`.
    pub(crate) fn route(&self, more: &str) -> String {
        let upstream = self.address;
        format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{upstream}\", http2: true{more} }}\n"
        )
    }

    /// How many connections were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A whole response: these fields and this body.
pub(crate) fn response(stream: u32, fields: &[(&str, &str)], body: &str) -> Vec<Frame> {
    let mut frames = head(stream, fields);
    frames.push(Frame::new(DATA, END_STREAM, stream, body.as_bytes()));
    frames
}

/// The head of a response, in as many frames as it needs.
pub(crate) fn head(stream: u32, fields: &[(&str, &str)]) -> Vec<Frame> {
    let fields = [&[(":status", "200")], fields].concat();
    let block = Frame::request(stream, 0, &fields).payload;
    in_pieces(stream, &block, 16_000)
}

/// A header block as HEADERS and CONTINUATION frames of this size.
pub(crate) fn in_pieces(stream: u32, block: &[u8], size: usize) -> Vec<Frame> {
    let mut kind = HEADERS;
    let mut frames = Vec::new();
    for piece in block.chunks(size) {
        frames.push(Frame::new(kind, 0, stream, piece));
        kind = CONTINUATION;
    }
    frames.last_mut().expect("a block is not empty").flags = END_HEADERS;
    frames
}

/// The beginning of an event stream: its head, and an event.
pub(crate) fn event_stream(stream: u32) -> Vec<Frame> {
    let mut frames = head(stream, &[("content-type", "text/event-stream")]);
    frames.push(event(stream, "first"));
    frames
}

/// An event.
pub(crate) fn event(stream: u32, data: &str) -> Frame {
    Frame::new(DATA, 0, stream, format!("data: {data}\n\n").as_bytes())
}
