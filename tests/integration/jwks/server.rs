//! A server of keys that does what a test says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A response with this status line, header lines and body.
    Response(&'static str, String, String),
    /// Keeps the connection, and says nothing.
    Nothing,
    /// Closes the connection.
    Close,
}

impl Answer {
    pub(crate) fn set(keys: &str) -> Self {
        Self::Response("200 OK", String::new(), keys.to_owned())
    }
}

/// A server of keys.
#[derive(Clone)]
pub(crate) struct KeyServer {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl KeyServer {
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer, None).await
    }

    /// Listens at `address`, with TLS if there is an acceptor.
    pub(crate) async fn start_at(
        address: SocketAddr,
        answer: Answer,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            requests: Arc::default(),
            open: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (server, tls) = (accepting.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => server.serve(socket).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                server.serve(socket).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    async fn serve(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        assert!(head.starts_with(b"GET /jwks?tenant=a HTTP/1.1\r\n"), "{head:?}");
        self.requests.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Close => {}
            Answer::Nothing => {
                self.open.fetch_add(1, Ordering::SeqCst);
                drop(socket.read_to_end(&mut head).await);
                self.open.fetch_sub(1, Ordering::SeqCst);
            }
            Answer::Response(status, headers, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
                // A gateway that has read enough closes.
                drop(socket.write_all(head.as_bytes()).await);
                drop(socket.write_all(body.as_bytes()).await);
                drop(socket.shutdown().await);
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks?tenant=a", self.address)
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The connections on which it says nothing.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}
