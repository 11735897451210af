//! Publishes to a server, in the way that the server supports. One connection, which never blocks.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::time::Duration;

use mio::net::TcpStream;

use crate::Outcome;

/// How a server is published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `PUBLISH` in Redis.
    Redis,
    /// `POST /pub/<channel>`, pipelined (Nchan).
    Http,
    /// A PUSH socket of ZeroMQ, with JSON (Pushpin).
    ZeroMq,
    /// The length and the payload (the bare loop).
    Bare,
}

/// A connection to publish over.
#[derive(Debug)]
pub(crate) struct Publisher {
    way: Way,
    socket: TcpStream,
    out: Vec<u8>,
    sent: usize,
}

impl Publisher {
    /// Connects, and sends the greeting if the protocol has one.
    pub(crate) fn connect(way: Way, address: SocketAddr) -> Outcome<Self> {
        let mut socket = BlockingStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        if way == Way::ZeroMq {
            greet(&mut socket)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self { way, socket: TcpStream::from_std(socket), out: Vec::new(), sent: 0 })
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Bytes that the socket has not taken.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Adds a message; it leaves with [`Publisher::write`].
    pub(crate) fn publish(&mut self, channel: u64, payload: &[u8]) {
        let out = &mut self.out;
        let length = payload.len();
        match self.way {
            Way::Redis => {
                let name = channel_name(channel);
                let head =
                    format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{name}\r\n${length}\r\n", name.len());
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
            Way::Http => {
                let head = format!(
                    "POST /pub/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n",
                    channel_name(channel)
                );
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(payload);
            }
            Way::ZeroMq => {
                let mut json = String::with_capacity(length + 100);
                let payload = String::from_utf8_lossy(payload);
                // Pushpin writes the text that it is given, so the event is encoded here.
                write!(
                    json,
                    r#"J{{"channel":"{}","formats":{{"http-stream":{{"content":"data: {payload}\n\n"}}}}}}"#,
                    channel_name(channel)
                )
                .expect("a string takes any text");
                put_zmtp_frame(out, json.as_bytes());
            }
            Way::Bare => {
                out.extend_from_slice(&(length as u32).to_be_bytes());
                out.extend_from_slice(payload);
            }
        }
    }

    /// Writes what the socket takes.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.socket.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads the replies, and returns an error if one of them is a refusal.
    pub(crate) fn read(&mut self) -> Outcome {
        let mut answers = [0; 16 << 10];
        loop {
            let read = match self.socket.read(&mut answers) {
                Ok(0) => return Err("the server closed the connection to publish over".into()),
                Ok(read) => &answers[..read],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let is_refused = match self.way {
                Way::Redis => read[0] == b'-',
                Way::Http => memchr::memmem::find_iter(read, b"HTTP/1.1 ")
                    .any(|at| read.get(at + 9).is_some_and(|&class| class != b'2')),
                Way::ZeroMq | Way::Bare => false,
            };
            if is_refused {
                return Err(format!("not published: {}", String::from_utf8_lossy(read)).into());
            }
        }
    }
}

/// The name of a channel.
pub(crate) fn channel_name(channel: u64) -> String {
    format!("c{channel}")
}

/// ZMTP 3.0 (RFC 23 of ZeroMQ): the greeting without security, then READY.
fn greet(socket: &mut BlockingStream) -> Outcome {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    socket.write_all(&greeting)?;
    let mut theirs = [0; 64];
    socket.read_exact(&mut theirs)?;
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x04PUSH";
    socket.write_all(&[0x04, ready.len() as u8])?;
    socket.write_all(ready)?;
    let mut header = [0; 2];
    socket.read_exact(&mut header)?;
    let mut theirs = vec![0; usize::from(header[1])];
    socket.read_exact(&mut theirs)?;
    if theirs.starts_with(b"\x05READY") { Ok(()) } else { Err("not ZeroMQ's READY".into()) }
}

fn put_zmtp_frame(out: &mut Vec<u8>, message: &[u8]) {
    match u8::try_from(message.len()) {
        Ok(length) => out.extend_from_slice(&[0, length]),
        Err(_longer) => {
            out.push(2);
            out.extend_from_slice(&(message.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(message);
}
