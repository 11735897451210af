//! A backend that audits what it is sent: each request must be one that a client of the test sent,
//! and its body must be what was announced, or its connection must end.
//!
//! Nothing of HTTP/1.1 is read by a library here, so that no reading is forgiven. How it answers
//! stands in the target of the request ([`Conduct`]), and so does what the client meant to send.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::echo::accept;

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// When all of it has been read.
    AfterAll,
    /// As soon as its head has been read; its body is read afterwards.
    Early,
    /// As soon as its head has been read, and the connection is closed.
    EarlyAndClose,
    /// `100 Continue` first, whether it was asked for or not; then as `AfterAll`.
    Continue,
    /// `103 Early Hints` first; then as `AfterAll`.
    Hints,
    /// With chunks, when all of it has been read.
    Chunks,
    /// 204, when all of it has been read.
    NoContent,
    /// It switches to what it is asked for; as `AfterAll` where it is asked for nothing.
    Switch,
    /// It does not want the body.
    Refuse,
}

impl Conduct {
    pub(crate) const ALL: [Self; 9] = [
        Self::AfterAll,
        Self::Early,
        Self::EarlyAndClose,
        Self::Continue,
        Self::Hints,
        Self::Chunks,
        Self::NoContent,
        Self::Switch,
        Self::Refuse,
    ];

    fn is_early(self) -> bool {
        matches!(self, Self::Early | Self::EarlyAndClose | Self::Refuse)
    }
}

/// What a client means to send, as the target tells the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    pub(crate) conduct: Conduct,
    /// Unlike that of all others.
    pub(crate) token: usize,
    /// Octets of the body.
    pub(crate) length: usize,
    /// Whether all of them are sent.
    pub(crate) is_whole: bool,
}

impl Meant {
    /// The target that says so.
    pub(crate) fn target(&self) -> String {
        let Self { conduct, token, length, is_whole } = self;
        format!("/{conduct:?}/{token}/{length}/{is_whole}")
    }

    fn read(target: &str) -> Option<Self> {
        let mut parts = target.strip_prefix('/')?.split('/');
        let conduct = parts.next()?;
        let conduct = Conduct::ALL.into_iter().find(|c| format!("{c:?}") == conduct)?;
        let (token, length) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let is_whole = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { conduct, token, length, is_whole })
    }

    /// The body of its answer.
    pub(crate) fn answer(&self) -> String {
        format!("token {}", self.token)
    }
}

/// So many octets of a body, all of which could be requests.
pub(crate) fn body(length: usize) -> Vec<u8> {
    const HIDDEN: &[u8] = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    HIDDEN.iter().copied().cycle().take(length).collect()
}

/// The backend.
pub(crate) struct Auditor {
    address: SocketAddr,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    faults: Mutex<Vec<String>>,
    seen: Mutex<HashSet<usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Books {
    fn fault(&self, what: String) {
        lock(&self.faults).push(what);
    }

    fn note(&self, token: usize) {
        if !lock(&self.seen).insert(token) {
            self.fault(format!("request {token} came twice"));
        }
    }

    /// Judges a body that has ended.
    fn judge(&self, meant: &Meant, body: &[u8], is_whole: bool) {
        let expected = self::body(meant.length);
        if !expected.starts_with(body) {
            self.fault(format!("{meant:?}: another body: {:?}", String::from_utf8_lossy(body)));
        }
        if is_whole && (!meant.is_whole || body.len() != expected.len()) {
            self.fault(format!("{meant:?}: complete after {} octets", body.len()));
        }
    }
}

impl Auditor {
    /// Listens: for HTTP/2 in clear text, and for HTTP/1.1 where that is spoken (upgrades are asked
    /// for over it); or for HTTP/1.1 alone.
    pub(crate) async fn start(is_http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::new(Books::default());
        let kept = Arc::clone(&books);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let books = Arc::clone(&kept);
                tokio::spawn(async move {
                    if is_http2 && begins_with_preface(&socket).await {
                        serve_http2(socket, books).await;
                    } else {
                        Http1::new(socket, books).serve().await;
                    }
                });
            }
        });
        Self { address, books }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes what was wrong since this was asked last.
    pub(crate) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.books.faults))
    }
}

/// A connection over HTTP/1.1; ended by `None`.
struct Http1 {
    socket: TcpStream,
    buffer: BytesMut,
    books: Arc<Books>,
}

struct Head {
    text: String,
    method: String,
    target: String,
}

impl Head {
    fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }
}

enum Framing {
    Length(usize),
    Chunks,
}

impl Http1 {
    fn new(socket: TcpStream, books: Arc<Books>) -> Self {
        Self { socket, buffer: BytesMut::new(), books }
    }

    async fn serve(mut self) -> Option<()> {
        loop {
            let head = self.head().await?;
            let Some((meant, framing)) = self.read(&head) else {
                self.books.fault(format!("no request of ours: {:?}", head.text));
                return None;
            };
            self.books.note(meant.token);
            let is_upgrade = !head.values("upgrade").is_empty();
            if meant.conduct == Conduct::Switch && is_upgrade {
                return self.switch(&head, &meant, &framing).await;
            }
            if meant.conduct.is_early() {
                self.answer(&head, &meant).await?;
            }
            match meant.conduct {
                Conduct::EarlyAndClose => return None,
                Conduct::Continue => self.write("HTTP/1.1 100 Continue\r\n\r\n").await?,
                Conduct::Hints => {
                    self.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await?;
                }
                _ => {}
            }
            self.body(&meant, framing).await?;
            if !meant.conduct.is_early() {
                self.answer(&head, &meant).await?;
            }
        }
    }

    /// The head of the next request, however strange.
    async fn head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.buffer.split_to(end)).into_owned();
        let line = text.lines().next().unwrap_or_default();
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Some(Head { text, method, target })
    }

    /// What the request says; `None` where it is not one of ours, or can be read in two ways.
    fn read(&self, head: &Head) -> Option<(Meant, Framing)> {
        let meant = Meant::read(&head.target)?;
        if !head.text.lines().next()?.ends_with(" HTTP/1.1") || head.values("host").len() != 1 {
            return None;
        }
        let framing = match (&*head.values("content-length"), &*head.values("transfer-encoding")) {
            ([], []) => Framing::Length(0),
            ([length], []) => Framing::Length(length.parse().ok()?),
            ([], ["chunked"]) => Framing::Chunks,
            _ => return None,
        };
        Some((meant, framing))
    }

    async fn answer(&mut self, head: &Head, meant: &Meant) -> Option<()> {
        let body = meant.answer();
        let length = body.len();
        let shown = if head.method == "HEAD" { "" } else { &body };
        let close =
            if meant.conduct == Conduct::EarlyAndClose { "connection: close\r\n" } else { "" };
        let answer = match meant.conduct {
            Conduct::NoContent => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Conduct::Chunks if !shown.is_empty() => format!(
                "HTTP/1.1 200 OK\r\n{}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n",
                (0..120).map(|n| format!("x-{n}: {n}\r\n")).collect::<String>(),
            ),
            Conduct::Refuse => {
                format!("HTTP/1.1 417 Refused\r\ncontent-length: {length}\r\n\r\n{shown}")
            }
            _ => format!("HTTP/1.1 200 OK\r\n{close}content-length: {length}\r\n\r\n{shown}"),
        };
        self.write(&answer).await
    }

    async fn switch(&mut self, head: &Head, meant: &Meant, framing: &Framing) -> Option<()> {
        if !matches!(framing, Framing::Length(0)) {
            self.books.fault(format!("an upgrade with a body: {:?}", head.text));
        }
        let mut answer = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\n".to_owned();
        let protocol = head.values("upgrade").concat();
        let key = head.values("sec-websocket-key").is_empty();
        let accept = if key { String::new() } else { accept(&head.text) };
        write!(answer, "upgrade: {protocol}\r\nsec-websocket-accept: {accept}\r\n\r\n").ok()?;
        self.write(&format!("{answer}{}", meant.answer())).await?;
        // Whatever comes now is no HTTP any more.
        loop {
            self.more().await?;
        }
    }

    /// Reads a body, and judges it.
    async fn body(&mut self, meant: &Meant, framing: Framing) -> Option<()> {
        let mut body = Vec::new();
        let complete = match framing {
            Framing::Length(length) => self.take(length, &mut body).await,
            Framing::Chunks => self.chunks(&mut body).await,
        };
        self.books.judge(meant, &body, complete.is_some());
        complete
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let line = self.line().await?;
            let Ok(size) = usize::from_str_radix(&line, 16) else {
                self.books.fault(format!("no size of a chunk: {line:?}"));
                return None;
            };
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Some(());
            }
            self.take(size, body).await?;
            let end = self.line().await?;
            if !end.is_empty() {
                self.books.fault(format!("no end of a chunk: {end:?}"));
                return None;
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.more().await?;
        }
    }

    /// Takes `length` octets, or what comes of them.
    async fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Option<()> {
        let mut left = length;
        loop {
            let taken = self.buffer.split_to(left.min(self.buffer.len()));
            into.extend_from_slice(&taken);
            left -= taken.len();
            if left == 0 {
                return Some(());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.socket.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }

    async fn write(&mut self, text: &str) -> Option<()> {
        self.socket.write_all(text.as_bytes()).await.ok()
    }
}

/// Whether HTTP/2 is spoken (RFC 9113, section 3.4).
async fn begins_with_preface(socket: &TcpStream) -> bool {
    let mut begin = [0; 4];
    while socket.peek(&mut begin).await.is_ok_and(|read| 0 < read && read < begin.len()) {
        tokio::task::yield_now().await;
    }
    &begin == b"PRI "
}

async fn serve_http2(socket: TcpStream, books: Arc<Books>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(stream(request, respond, Arc::clone(&books)));
    }
}

async fn stream(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    books: Arc<Books>,
) -> Option<()> {
    let target = request.uri().path_and_query().map_or("", |path| path.as_str());
    let Some(meant) = Meant::read(target) else {
        books.fault(format!("no request of ours: {request:?}"));
        return None;
    };
    books.note(meant.token);
    let lengths: Vec<_> = request.headers().get_all("content-length").iter().cloned().collect();
    let is_head = request.method() == "HEAD";
    let mut incoming = request.into_body();
    if meant.conduct.is_early() {
        answer_http2(&mut respond, &meant, is_head)?;
        if meant.conduct == Conduct::EarlyAndClose {
            respond.send_reset(h2::Reason::NO_ERROR);
            return None;
        }
    }
    let before = match meant.conduct {
        Conduct::Continue => Some(100),
        Conduct::Hints => Some(103),
        _ => None,
    };
    if let Some(status) = before {
        let response = http::Response::builder().status(status).header("link", "</a>");
        respond.send_informational(response.body(()).ok()?).ok()?;
    }
    let mut body = Vec::new();
    let mut is_whole = true;
    while let Some(data) = incoming.data().await {
        match data {
            Ok(data) => {
                incoming.flow_control().release_capacity(data.len()).ok()?;
                body.extend_from_slice(&data);
            }
            Err(error) => {
                if !error.is_remote() && !error.is_io() {
                    books.fault(format!("{meant:?}: {error}"));
                }
                is_whole = false;
                break;
            }
        }
    }
    books.judge(&meant, &body, is_whole);
    let announced: Option<usize> =
        lengths.first().and_then(|length| length.to_str().ok()?.parse().ok());
    if is_whole && lengths.len() > 1
        || announced.is_some_and(|length| is_whole && length != body.len())
    {
        books.fault(format!("{meant:?}: {lengths:?} announced, {} came", body.len()));
    }
    if is_whole && !meant.conduct.is_early() {
        answer_http2(&mut respond, &meant, is_head)?;
    }
    Some(())
}

fn answer_http2(
    respond: &mut h2::server::SendResponse<Bytes>,
    meant: &Meant,
    is_head: bool,
) -> Option<()> {
    let status = match meant.conduct {
        Conduct::NoContent => 204,
        Conduct::Refuse => 417,
        _ => 200,
    };
    let mut response = http::Response::builder().status(status);
    if meant.conduct == Conduct::Chunks {
        for n in 0..120 {
            response = response.header(format!("x-{n}"), n);
        }
    }
    let response = response.body(()).ok()?;
    let has_no_body = is_head || meant.conduct == Conduct::NoContent;
    let mut body = respond.send_response(response, has_no_body).ok()?;
    if !has_no_body {
        body.send_data(meant.answer().into(), true).ok()?;
    }
    Some(())
}
