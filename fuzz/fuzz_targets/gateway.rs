//! A whole gateway in this process, a backend behind it, and clients that hide nothing from it.
//!
//! The gateway's own assertions and panics end the process, whatever thread they happen in, and so
//! do those of the backend, which looks at each request that reaches it.
#![allow(dead_code, reason = "each target uses some of it")]

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use ssegate::gateway::{Gateway, StartMode};
use ssegate::source::SourceLocation;

/// What has not ended after this never will.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who has said nothing for so long waits for more.
pub const QUIET: Duration = Duration::from_millis(2);
/// No answer to the few octets of an input is longer.
const MAX_ANSWER: usize = 16 << 20;
/// Every so many exchanges it is looked whether the gateway still serves.
const LOOK: u64 = 64;

/// Where the gateway listens.
#[derive(Clone, Copy)]
pub struct Gate {
    pub clients: SocketAddr,
    pub bus: SocketAddr,
}

/// The gateway of this process, with its own bus.
pub fn gate() -> Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    *GATE.get_or_init(|| {
        let backend = backend();
        let text = format!(
            "
redis: {{ url: \"embedded://127.0.0.1:0\" }}
listeners: [{{ address: \"127.0.0.1:0\" }}]
admin: off
shards: 1
http1: {{ half_close: 0s }}
sse: {{ linger: 100ms, replay: last }}
routes:
  - path: /events
    events: {{ channels: [\"{{query.channel}}\"] }}
    cors: {{ origins: [\"https://app.example\"], credentials: true }}
  - path: /envelopes/{{channel}}
    events: {{ channels: [\"{{channel}}\"], format: envelope, history: off }}
  - path: /{{*rest}}
    proxy: {{ upstream: \"http://{backend}\" }}
    handover: {{ key: \"0123456789abcdef0123456789abcdef\" }}
"
        );
        let settings = ssegate::config::parse(&text, "gateway.yaml", &|_| None);
        let settings = settings.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let gateway = Gateway::open(settings, StartMode::Fresh).expect("sockets");
        let settings = gateway.settings();
        let SourceLocation::Embedded(bus) = settings.source.location else { unreachable!() };
        let gate = Gate { clients: settings.listeners[0].address, bus };
        std::thread::spawn(|| gateway.run(None, ssegate::log::LogOutput::none()).expect("runs"));
        gate
    })
}

/// A connection that leaves no port behind that waits for a minute.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the gateway listens");
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a socket");
    socket.set_nodelay(true).expect("a socket");
    socket
}

/// Says it all, waits until nothing more is answered, is done, and waits until the gateway has hung
/// up. What was answered.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = connect(address);
    let mut answer = Vec::new();
    let _gone = socket.write_all(bytes);
    // Of HTTP/1.0, hyper sees no end of what comes while octets that it did not ask for lie there:
    // such a stream ends when a write to it fails, and is not waited for.
    if read(&mut socket, QUIET, &mut answer) == Heard::Silence && !is_old_stream(&answer) {
        hang_up(&mut socket, &mut answer);
    }
    look();
    answer
}

fn is_old_stream(answer: &[u8]) -> bool {
    contains(answer, b"\r\ncontent-type: text/event-stream\r\n")
        && !contains(answer, b"\r\ntransfer-encoding: chunked\r\n")
}

/// Says that nothing more comes, and waits until the gateway has hung up.
pub fn hang_up(socket: &mut TcpStream, answer: &mut Vec<u8>) {
    let _gone = socket.shutdown(Shutdown::Write);
    let begun = Instant::now();
    // Not until it is quiet: a stream is kept alive.
    loop {
        match read_some(socket, PATIENCE, answer) {
            Some(Heard::End | Heard::Reset) => return,
            Some(Heard::Silence) | None => {}
        }
        assert!(begun.elapsed() < PATIENCE, "the connection never ends");
    }
}

/// Why no more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The gateway has closed the connection in good order.
    End,
    /// It has cut it.
    Reset,
    /// It says nothing.
    Silence,
}

/// Reads to the end, or until nothing came for so long.
pub fn read(socket: &mut TcpStream, patience: Duration, answer: &mut Vec<u8>) -> Heard {
    loop {
        if let Some(heard) = read_some(socket, patience, answer) {
            return heard;
        }
    }
}

/// Reads what comes next; why there is no more of it.
pub fn read_some(
    socket: &mut TcpStream,
    patience: Duration,
    answer: &mut Vec<u8>,
) -> Option<Heard> {
    socket.set_read_timeout(Some(patience)).expect("a socket");
    let mut piece = [0; 16 << 10];
    match socket.read(&mut piece) {
        Ok(0) => Some(Heard::End),
        Ok(length) => {
            answer.extend_from_slice(&piece[..length]);
            assert!(answer.len() < MAX_ANSWER, "an answer without end");
            None
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => None,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Some(Heard::Silence)
        }
        Err(_) => Some(Heard::Reset),
    }
}

/// Reads until `is_enough` says so of all that was read.
pub fn read_until(
    socket: &mut TcpStream,
    answer: &mut Vec<u8>,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) -> Option<Heard> {
    while !is_enough(answer) {
        match read_some(socket, PATIENCE, answer) {
            Some(Heard::Silence) => panic!("no answer, after {}", answer.escape_ascii()),
            None => {}
            end => return end,
        }
    }
    None
}

/// Publishes on the bus. How many heard it.
pub fn publish(channel: &[u8], payload: &[u8]) -> u64 {
    static PUBLISHER: Mutex<Option<TcpStream>> = Mutex::new(None);
    let mut publisher = PUBLISHER.lock().expect("a lock");
    let socket = publisher.get_or_insert_with(|| connect(gate().bus));
    let mut command = b"*3\r\n$7\r\nPUBLISH\r\n".to_vec();
    for word in [channel, payload] {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    socket.write_all(&command).expect("the bus listens");
    let mut answer = Vec::new();
    let end = read_until(socket, &mut answer, |answer| answer.ends_with(b"\r\n"));
    assert_eq!(end, None, "the bus does not hang up");
    let number = answer.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b"\r\n"));
    let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
    number.unwrap_or_else(|| panic!("{} is no number", answer.escape_ascii()))
}

/// Now and then: whatever came before, a good client is served.
pub fn look() {
    static EXCHANGES: Mutex<u64> = Mutex::new(0);
    let mut exchanges = EXCHANGES.lock().expect("a lock");
    *exchanges += 1;
    if !exchanges.is_multiple_of(LOOK) {
        return;
    }
    let mut socket = connect(gate().clients);
    let channel = format!("good-{exchanges}");
    let request = format!("GET /events?channel={channel} HTTP/1.1\r\nhost: a\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("the gateway listens");
    let mut answer = Vec::new();
    let is_ready = |answer: &[u8]| contains(answer, b": ready\n");
    assert_eq!(read_until(&mut socket, &mut answer, is_ready), None, "a good client is served");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
    assert_eq!(publish(channel.as_bytes(), b"hello"), 1, "the gateway listens");
    let has_heard = |answer: &[u8]| contains(answer, b"\ndata: hello\nid: ");
    assert_eq!(read_until(&mut socket, &mut answer, has_heard), None, "and hears it");
}

pub fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// What the backend answers next; nothing more is said on that connection.
pub static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("a socket");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(|| serve(socket.expect("a socket")));
        }
    });
    address
}

/// Answers one request.
fn serve(mut socket: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !contains(&request, b"\r\n\r\n") {
        if read_some(&mut socket, PATIENCE, &mut request).is_some() {
            return Ok(());
        }
    }
    check_head(&request);
    let answer = ANSWER.lock().expect("a lock").clone();
    socket.write_all(if answer.is_empty() { HELLO } else { &answer })?;
    socket.shutdown(Shutdown::Write)?;
    // Whoever closes with something unread takes back what was written.
    io::copy(&mut socket, &mut io::sink())?;
    Ok(())
}

/// A field of a head: its name in lower case, and its value.
type Field<'m> = (Vec<u8>, &'m [u8]);

/// The fields of a message's head.
fn fields(message: &[u8]) -> Vec<Field<'_>> {
    let lines = message.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    lines.skip(1).take_while(|line| !line.is_empty()).map(field_of).collect()
}

fn field_of(line: &[u8]) -> Field<'_> {
    let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
    (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii())
}

/// The values of the fields with this name.
fn values<'m>(fields: &[Field<'m>], name: &[u8]) -> Vec<&'m [u8]> {
    fields.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect()
}

/// What a backend relies on, whatever the client said: whom the request is for and from is told
/// once, and where the body ends is told in one way.
fn check_head(request: &[u8]) {
    let fields = fields(request);
    let values = |name: &[u8]| values(&fields, name);
    let shown = request.escape_ascii();
    assert_eq!(values(b"x-forwarded-for"), [b"127.0.0.1"], "{shown}");
    assert_eq!(values(b"x-forwarded-proto"), [b"http"], "{shown}");
    assert_eq!(values(b"x-real-ip").len(), 0, "{shown}");
    assert_eq!(values(b"forwarded").len(), 1, "{shown}");
    assert!(values(b"host").len() <= 1, "{shown}");
    let (lengths, codings) = (values(b"content-length"), values(b"transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two ends of one body: {shown}");
    assert!(codings.iter().all(|coding| coding == b"chunked"), "{shown}");
    assert!(fields.iter().all(|(name, _)| !name.contains(&b'_')), "{shown}");
}

/// What a client relies on: the first answer is one of HTTP/1.1, its head says the same thing once,
/// and its body is no longer than announced.
pub fn check_answer(answer: &[u8], has_body: bool) {
    let shown = answer.escape_ascii();
    assert!(answer.starts_with(b"HTTP/1."), "{shown}");
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return };
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    let fields = fields(head);
    let values = |name: &[u8]| values(&fields, name);
    // What is between the backend and us stays there.
    assert!(!fields.iter().any(|(name, _)| name.starts_with(b"grip-")), "{shown}");
    let (lengths, codings) = (values(b"content-length"), values(b"transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two ends of one body: {shown}");
    if let [length] = lengths[..] {
        let length =
            std::str::from_utf8(length).ok().and_then(|length| length.parse::<usize>().ok());
        let length = length.unwrap_or_else(|| panic!("a length that is none: {shown}"));
        assert!(!has_body || body.len() <= length, "{shown}");
    }
}
