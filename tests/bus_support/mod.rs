//! A bus of its own for each test, and hands to talk to it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by test binaries, none of which uses everything"
)]

pub mod redis;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::BytesMut;
use ssegate_bus::{Broker, BusSettings, BusStats, Outlet, serve};
use ssegate_resp::{Limits, Payload, Value, ValueDecoder};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio_util::sync::CancellationToken;

/// What nothing in a test takes, unless it hangs.
pub const LONG: Duration = Duration::from_secs(60);

/// A bus on a free port of loopback, in a thread of its own; stopped when dropped.
pub struct Bus {
    pub address: SocketAddr,
    pub stats: Arc<BusStats>,
    /// What the gateway's outlet heard.
    pub heard: Receiver<Heard>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// A call of the outlet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Message { pattern: Option<String>, channel: String, payload: Payload },
    Flush,
}

struct Ear(Sender<Heard>);

impl Outlet for Ear {
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        let pattern = pattern.map(text);
        let heard = Heard::Message { pattern, channel: text(channel), payload: payload.clone() };
        drop(self.0.send(heard));
    }

    fn flush(&mut self) {
        drop(self.0.send(Heard::Flush));
    }
}

impl Bus {
    /// Starts a bus whose gateway follows these channels, and as patterns those with a `*`.
    pub fn start(follow: &'static [&'static str]) -> Self {
        Self::start_with(BusSettings::default(), follow)
    }

    pub fn start_with(settings: BusSettings, follow: &'static [&'static str]) -> Self {
        let (started, starting) = mpsc::channel();
        let (ear, heard) = mpsc::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime =
                Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
                let broker = Broker::new(settings);
                let handle = broker.attach(Ear(ear));
                for name in follow {
                    match name.contains('*') {
                        true => handle.psubscribe(name.as_bytes()),
                        false => handle.subscribe(name.as_bytes()),
                    }
                }
                let address = listener.local_addr().expect("an address");
                started.send((address, broker.stats())).expect("the test waits");
                serve(listener, broker, stopped).await;
            });
        });
        let (address, stats) = starting.recv_timeout(LONG).expect("the bus starts");
        Self { address, stats, heard, stop, thread: Some(thread) }
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// The next message that the gateway hears, as (channel, payload).
    pub fn next_message(&self) -> (String, String) {
        loop {
            match self.heard.recv_timeout(LONG).expect("a message") {
                Heard::Flush => {}
                Heard::Message { channel, payload: Payload::Whole(bytes), .. } => {
                    return (channel, text(&bytes));
                }
                Heard::Message { payload, .. } => panic!("{payload:?}"),
            }
        }
    }

    /// Ends the bus and waits until it has ended.
    pub fn stop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the bus ends without panic");
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A plain client that writes bytes and reads values.
pub struct Peer {
    pub stream: TcpStream,
    decoder: ValueDecoder,
    buf: BytesMut,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        stream.set_nodelay(true).expect("nodelay");
        let limits = Limits::with_max_bulk(64 << 20);
        Self { stream, decoder: ValueDecoder::new(limits), buf: BytesMut::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sends");
    }

    /// Sends a command; gives back its first reply.
    pub fn ask(&mut self, words: &[&str]) -> Value {
        self.send(command(words));
        self.next().expect("a reply")
    }

    /// Sends commands, each with one reply; gives back the bytes of their replies.
    pub fn replies(&mut self, commands: &[Vec<String>]) -> String {
        let words =
            |words: &Vec<String>| command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        self.send(commands.iter().flat_map(words).collect::<Vec<u8>>());
        self.raw(commands.len())
    }

    /// The bytes of so many replies.
    pub fn raw(&mut self, replies: usize) -> String {
        let mut read = self.buf.to_vec();
        for _ in 0..replies {
            while self.decoder.decode(&mut self.buf).expect("RESP").is_none() {
                let mut bytes = [0; 64 << 10];
                let len = self.stream.read(&mut bytes).expect("reads");
                assert!(len > 0, "closed after {}", text(&read));
                read.extend_from_slice(&bytes[..len]);
                self.buf.extend_from_slice(&bytes[..len]);
            }
        }
        text(&read[..read.len() - self.buf.len()])
    }

    /// The next value; `None` when the bus has closed the connection.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(value) = self.decoder.decode(&mut self.buf).expect("RESP") {
                return Some(value);
            }
            let mut bytes = [0; 64 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(len) => self.buf.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A command, as clients write it.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// A reply as redis-cli would print it, on one line.
pub fn show(value: &Value) -> String {
    let all = |values: &[Value]| values.iter().map(show).collect::<Vec<_>>().join(" ");
    match value {
        Value::Simple(bytes) | Value::Bulk(bytes) | Value::Verbatim { text: bytes, .. } => {
            text(bytes)
        }
        Value::Error(bytes) => format!("-{}", text(bytes)),
        Value::Integer(number) => format!(":{number}"),
        Value::Null => "nil".into(),
        Value::Array(values) => format!("[{}]", all(values)),
        Value::Push(values) => format!(">[{}]", all(values)),
        Value::Map(pairs) => {
            let mut pairs: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{}={}", show(key), show(value))).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(" "))
        }
        other => format!("{other:?}"),
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Runs a program to its end, within `timeout`, with `input` on its standard input.
///
/// A program that is missing is a failure that names what to install.
pub fn run(command: &mut Command, input: &str, timeout: Duration, needs: &str) -> Output {
    let spawned =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| {
        panic!("{}: {error}; install it: {needs}", command.get_program().to_string_lossy())
    });
    let id = child.id();
    let mut stdin = child.stdin.take().expect("piped");
    let (finished, ending) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if ending.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout) {
            // By its own id; the standard library's handle is busy reading.
            drop(Command::new("kill").args(["-9", &id.to_string()]).status());
        }
    });
    // A program that ends without reading all is no failure of ours.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    drop(finished);
    watch.join().expect("the watch ends");
    output
}
