//! A backend over HTTP/2 on the `h2` crate, which keeps to every window.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::net::TcpListener;

/// The backend. By path: `/large` is a body of 4 MiB, `/tiny` a million events in a DATA frame each,
/// `/upload` the length of the request's body once it has been read, anything else a short body.
pub(crate) struct H2Site {
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl H2Site {
    /// Listens.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                tokio::spawn(serve(socket, Arc::clone(&count)));
            }
        });
        Self { address, sent, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    /// A route for everything that leads here, with further keys of `proxy`.
    pub(crate) fn route(&self, more: &str) -> String {
        let upstream = self.address;
        format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{upstream}\", http2: true{more} }}\n"
        )
    }

    /// How many bytes of bodies have been sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn serve(socket: tokio::net::TcpStream, sent: Arc<AtomicUsize>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let sent = Arc::clone(&sent);
        tokio::spawn(async move {
            let (head, body) = request.into_parts();
            let mut response = http::Response::new(());
            if head.uri.path() == "/tiny" {
                let events = "text/event-stream".parse().unwrap();
                response.headers_mut().insert("content-type", events);
            }
            let read = if head.uri.path() == "/upload" { read(body).await } else { 0 };
            let Ok(mut to) = respond.send_response(response, false) else { return };
            let pieces = match head.uri.path() {
                "/large" => vec![Bytes::from(vec![b'x'; 16 << 10]); 256],
                "/tiny" => vec![Bytes::from_static(b"data: 0123456\n\n"); 1 << 20],
                "/upload" => vec![Bytes::from(read.to_string())],
                _ => vec![Bytes::from_static(b"short")],
            };
            for piece in pieces {
                if !send(&mut to, piece, &sent).await {
                    return;
                }
            }
            // One that has left does not matter.
            drop(to.send_data(Bytes::new(), true));
        });
    }
}

async fn read(mut body: RecvStream) -> usize {
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        drop(body.flow_control().release_capacity(data.len()));
    }
    length
}

/// Sends when the windows allow it.
async fn send(to: &mut SendStream<Bytes>, mut piece: Bytes, sent: &AtomicUsize) -> bool {
    while !piece.is_empty() {
        to.reserve_capacity(piece.len());
        let capacity = std::future::poll_fn(|cx| to.poll_capacity(cx)).await;
        let Some(Ok(capacity)) = capacity else { return false };
        let part = piece.split_to(capacity.min(piece.len()));
        sent.fetch_add(part.len(), Ordering::SeqCst);
        if to.send_data(part, false).is_err() {
            return false;
        }
    }
    true
}
