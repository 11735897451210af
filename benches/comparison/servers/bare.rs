//! The limit: one `write(2)` for each event and connection, and nothing else.
//!
//! A process of its own, so that its CPU is counted apart. It reads events from one connection, and writes
//! each as one chunk of HTTP/1.1 with one SSE frame to every other connection, one after the other.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::{Running, Site, free_address, words};
use crate::Outcome;
use crate::process::Process;
use crate::publisher::Way;

/// The first argument of this program when it is to be the loop.
pub(crate) const ROLE: &str = "--be-the-bare-loop";

const CLIENTS: Token = Token(0);
const PUBLISHERS: Token = Token(1);
const FIRST: usize = 2;
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(super) fn start(site: &Site) -> Outcome<Running> {
    let [plain, publish_at] = std::array::from_fn(|_| free_address());
    let arguments = words([ROLE, &plain.to_string(), &publish_at.to_string()]);
    let program = std::env::current_exe()?;
    let cores = &site.cores.servers;
    let process = Process::start("bare", cores, &site.directory, program, &arguments)?;
    Ok(Running {
        processes: vec![process],
        support: Vec::new(),
        plain,
        tls: None,
        path: "/",
        way: Way::Bare,
        publish_at,
        admin: None,
    })
}

/// Runs the loop, until it is ended.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let [clients, publishers] = arguments else { return Err("two addresses are needed".into()) };
    let (clients, publishers) = (clients.parse()?, publishers.parse()?);
    let mut bare = Loop::new(clients, publishers)?;
    let mut events = Events::with_capacity(1024);
    loop {
        bare.poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                CLIENTS => bare.accept(true)?,
                PUBLISHERS => bare.accept(false)?,
                token => bare.serve(token, event.is_readable())?,
            }
        }
    }
}

struct Loop {
    poll: Poll,
    clients: TcpListener,
    publishers: TcpListener,
    peers: Vec<Option<Peer>>,
}

struct Peer {
    socket: TcpStream,
    kind: Kind,
    // Bytes that could not be written yet, or that are read only in part.
    pending: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Asking,
    Listening,
    Publishing,
}

impl Loop {
    fn new(clients: SocketAddr, publishers: SocketAddr) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut clients = TcpListener::bind(clients)?;
        let mut publishers = TcpListener::bind(publishers)?;
        poll.registry().register(&mut clients, CLIENTS, Interest::READABLE)?;
        poll.registry().register(&mut publishers, PUBLISHERS, Interest::READABLE)?;
        Ok(Self { poll, clients, publishers, peers: Vec::new() })
    }

    fn accept(&mut self, is_client: bool) -> Outcome {
        loop {
            let listener = if is_client { &self.clients } else { &self.publishers };
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            socket.set_nodelay(true)?;
            let token = Token(FIRST + self.peers.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, token, interest)?;
            let kind = if is_client { Kind::Asking } else { Kind::Publishing };
            self.peers.push(Some(Peer { socket, kind, pending: Vec::new() }));
        }
    }

    fn serve(&mut self, token: Token, is_readable: bool) -> Outcome {
        let place = token.0 - FIRST;
        let Some(peer) = &mut self.peers[place] else { return Ok(()) };
        if peer.kind == Kind::Listening && !peer.pending.is_empty() {
            let pending = std::mem::take(&mut peer.pending);
            peer.write(&pending);
        }
        if !is_readable {
            return Ok(());
        }
        let mut buffer = [0; 64 << 10];
        loop {
            let Some(peer) = &mut self.peers[place] else { return Ok(()) };
            match peer.socket.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(0) | Err(_) => {
                    self.peers[place] = None;
                    return Ok(());
                }
                // What a subscriber sends after its request is ignored.
                Ok(_) if peer.kind == Kind::Listening => continue,
                Ok(read) => peer.pending.extend_from_slice(&buffer[..read]),
            }
            match peer.kind {
                Kind::Asking if peer.pending.ends_with(b"\r\n\r\n") => {
                    peer.kind = Kind::Listening;
                    peer.pending.clear();
                    peer.write(HEAD);
                }
                Kind::Asking | Kind::Listening => {}
                Kind::Publishing => self.publish(place),
            }
        }
    }

    /// Writes the complete messages of this publisher to all subscribers.
    fn publish(&mut self, place: usize) {
        let Some(peer) = &mut self.peers[place] else { return };
        let mut input = std::mem::take(&mut peer.pending);
        let mut used = 0;
        while let Some((length, rest)) = input[used..].split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(payload) = rest.get(..length) else { break };
            let chunk = chunk(payload);
            for peer in self.peers.iter_mut().flatten() {
                if peer.kind == Kind::Listening {
                    peer.write(&chunk);
                }
            }
            used += 4 + length;
        }
        input.drain(..used);
        if let Some(peer) = &mut self.peers[place] {
            peer.pending = input;
        }
    }
}

impl Peer {
    fn write(&mut self, chunk: &[u8]) {
        let written = if self.pending.is_empty() { self.socket.write(chunk) } else { Ok(0) };
        // An error is noticed when the socket is read.
        let written = written.unwrap_or(0);
        self.pending.extend_from_slice(&chunk[written..]);
    }
}

/// The frame that the gateway would write, as a chunk.
fn chunk(payload: &[u8]) -> Vec<u8> {
    let mut frame = b"data: ".to_vec();
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\nid: abcdef-1\n\n");
    let mut chunk = format!("{:X}\r\n", frame.len()).into_bytes();
    chunk.extend_from_slice(&frame);
    chunk.extend_from_slice(b"\r\n");
    chunk
}
