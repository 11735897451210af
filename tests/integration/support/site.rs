//! A backend like most: it reads a request to its end, whatever it is, and then answers it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// The backend.
pub(crate) struct Site {
    address: SocketAddr,
    begun: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Site {
    /// Listens, and answers `200 OK` with this body to every request.
    pub(crate) async fn start(body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                let answer = service_fn(move |request: http::Request<Incoming>| {
                    count.fetch_add(1, Ordering::SeqCst);
                    async move {
                        // One that is cut off is answered in vain.
                        let length =
                            request.into_body().collect().await.map(|all| all.to_bytes().len());
                        let mut response =
                            Response::new(Full::new(Bytes::from_static(body.as_bytes())));
                        response.headers_mut().insert("x-length", length.unwrap_or(0).into());
                        Ok::<_, Infallible>(response)
                    }
                });
                let serving = http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
                tokio::spawn(async { drop(serving.await) });
            }
        });
        Self { address, begun, open: Arc::default() }
    }

    /// Listens, reads, and never answers.
    pub(crate) async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (heads, sockets) = (Arc::clone(&begun), Arc::clone(&open));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (heads, sockets) = (Arc::clone(&heads), Arc::clone(&sockets));
                sockets.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut read = [0; 4096];
                    if socket.read(&mut read).await.is_ok_and(|length| length > 0) {
                        heads.fetch_add(1, Ordering::SeqCst);
                        while matches!(socket.read(&mut read).await, Ok(1..)) {}
                    }
                    sockets.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, begun, open }
    }

    /// A route that leads here.
    pub(crate) fn route(&self, path: &str) -> String {
        format!("- path: {path}\n  proxy: {{ upstream: \"http://{}\" }}\n", self.address)
    }

    /// How many connections are open; a silent one's only.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// How many requests have come.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}
