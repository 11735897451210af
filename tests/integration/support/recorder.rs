//! A backend that answers every request, and keeps the bytes of each as it came.
//!
//! It reads HTTP/1.1 more strictly than any server: what it cannot read is kept as broken. So it
//! tells how many requests a backend would have seen.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: RequestEnd,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestEnd {
    /// To its end.
    Complete,
    /// The connection ended before it did.
    Cut,
    /// It is no HTTP/1.1.
    Broken,
}

impl Recorded {
    /// Method and target.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The values of a header, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }
}

/// The backend.
pub(crate) struct Recorder {
    address: SocketAddr,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    begun: AtomicUsize,
    recorded: Mutex<Vec<Recorded>>,
}

impl Log {
    fn recorded(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Listens, and answers `200 OK` with the body `ok` to every request.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let into = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&into)));
            }
        });
        Self { address, log }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A route that leads here.
    pub(crate) fn route(&self, path: &str) -> String {
        format!("- path: {path}\n  proxy: {{ upstream: \"http://{}\" }}\n", self.address)
    }

    /// How many heads have been read.
    pub(crate) fn begun(&self) -> usize {
        self.log.begun.load(Ordering::SeqCst)
    }

    /// The requests that have ended so far.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        self.log.recorded().clone()
    }

    /// Takes them out.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.log.recorded())
    }
}

async fn serve(mut socket: TcpStream, log: Arc<Log>) {
    let mut buffer = BytesMut::new();
    while let Some(request) = read(&mut socket, &mut buffer, &log.begun).await {
        let end = request.end;
        log.recorded().push(request);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        if end != RequestEnd::Complete || socket.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// The next request; `None` at an end between two.
async fn read(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
    begun: &AtomicUsize,
) -> Option<Recorded> {
    let mut request = Recorded { head: String::new(), body: Vec::new(), end: RequestEnd::Cut };
    let end = loop {
        if let Some(at) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if !more(socket, buffer).await {
            request.head = String::from_utf8_lossy(buffer).into_owned();
            return (!buffer.is_empty()).then_some(request);
        }
    };
    let head = buffer.split_to(end);
    begun.fetch_add(1, Ordering::SeqCst);
    request.head = String::from_utf8_lossy(&head).into_owned();
    request.end = match framing(&request) {
        Some(Framing::Length(length)) => {
            take(socket, buffer, length, &mut request.body).await.unwrap_or(RequestEnd::Cut)
        }
        Some(Framing::Chunks) => chunks(socket, buffer, &mut request.body).await,
        None => RequestEnd::Broken,
    };
    Some(request)
}

enum Framing {
    Length(usize),
    Chunks,
}

/// One framing, said once, in a head without anything odd.
fn framing(request: &Recorded) -> Option<Framing> {
    let bytes = request.head.as_bytes();
    let ends = memchr::memmem::find_iter(bytes, b"\r\n").count();
    let is_odd = |byte: &u8| *byte == 0 || *byte == b'\t';
    let lines = |byte| bytes.iter().filter(|other| **other == byte).count();
    if lines(b'\r') != ends || lines(b'\n') != ends || bytes.iter().any(is_odd) {
        return None;
    }
    if request.values("host").len() != 1 || request.line().split(' ').count() != 3 {
        return None;
    }
    match (&*request.values("content-length"), &*request.values("transfer-encoding")) {
        ([], []) => Some(Framing::Length(0)),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().ok().map(Framing::Length)
        }
        ([], ["chunked"]) => Some(Framing::Chunks),
        _ => None,
    }
}

async fn chunks(socket: &mut TcpStream, buffer: &mut BytesMut, body: &mut Vec<u8>) -> RequestEnd {
    loop {
        let line = loop {
            if let Some(at) = memchr::memmem::find(buffer, b"\r\n") {
                let line = buffer.split_to(at);
                buffer.advance(2);
                break line;
            }
            if !more(socket, buffer).await {
                return RequestEnd::Cut;
            }
        };
        let size = std::str::from_utf8(&line).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return RequestEnd::Broken;
        };
        if take(socket, buffer, size, body).await.is_none() {
            return RequestEnd::Cut;
        }
        let mut end = Vec::new();
        if take(socket, buffer, 2, &mut end).await.is_none() {
            return RequestEnd::Cut;
        }
        if end != b"\r\n" {
            return RequestEnd::Broken;
        }
        if size == 0 {
            return RequestEnd::Complete;
        }
    }
}

async fn take(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
    length: usize,
    into: &mut Vec<u8>,
) -> Option<RequestEnd> {
    while buffer.len() < length {
        if !more(socket, buffer).await {
            return None;
        }
    }
    into.extend_from_slice(&buffer.split_to(length));
    Some(RequestEnd::Complete)
}

async fn more(socket: &mut TcpStream, buffer: &mut BytesMut) -> bool {
    socket.read_buf(buffer).await.is_ok_and(|read| read > 0)
}
