//! One connection of the load: a socket, TLS where the mode has it, and HTTP.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use socket2::SockRef;

use crate::Outcome;
use crate::http1::Http1;
use crate::http2::Http2;
use crate::mode::{Mode, Protocol};
use crate::stream::{Stream, Tally};

/// A connection, from its start on.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    http: Http,
    // What the socket has not taken yet, perhaps because it is not connected.
    out: Vec<u8>,
}

#[derive(Debug)]
enum Http {
    One(Box<Http1>),
    Two(Box<Http2>),
}

/// Read buffers, shared by all connections.
#[derive(Debug)]
pub(crate) struct Scratch {
    wire: Vec<u8>,
    plain: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { wire: vec![0; 64 << 10], plain: vec![0; 64 << 10] }
    }
}

impl Connection {
    /// Begins to connect, and asks for `streams` (each with its path) as soon as it can.
    pub(crate) fn open(
        address: SocketAddr,
        mode: Mode,
        tls: &Arc<ClientConfig>,
        streams: Vec<(Stream, String)>,
    ) -> Outcome<Self> {
        let socket = TcpStream::connect(address)?;
        let mut out = Vec::new();
        let http = match mode.protocol {
            Protocol::Http1 | Protocol::Http1Tls => {
                let [(stream, path)] = <[_; 1]>::try_from(streams)
                    .map_err(|_several| "HTTP/1.1 has one stream on a connection")?;
                out = Http1::request(&path);
                Http::One(Box::new(Http1::new(stream)))
            }
            Protocol::Http2Tls => {
                let mut http = Http2::new();
                out.extend_from_slice(&Http2::preface());
                for (stream, path) in streams {
                    http.open(stream, &path, &mut out);
                }
                Http::Two(Box::new(http))
            }
        };
        let tls = match mode.protocol.alpn() {
            None => None,
            Some(alpn) => {
                let name = ServerName::try_from("localhost")?;
                let alpn = vec![alpn.to_vec()];
                let client = ClientConnection::new_with_alpn(Arc::clone(tls), name, alpn)?;
                Some(Box::new(client))
            }
        };
        Ok(Self { socket, tls, http, out })
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Opens one more stream, over HTTP/2.
    pub(crate) fn open_stream(&mut self, stream: Stream, path: &str, tally: &mut Tally) {
        if let Http::Two(http) = &mut self.http {
            http.open(stream, path, &mut self.out);
            self.writable(tally);
        }
    }

    /// Resets the oldest stream beyond the first `kept`, over HTTP/2; returns whether it did.
    pub(crate) fn reset_stream(&mut self, kept: usize, tally: &mut Tally) -> bool {
        let Http::Two(http) = &mut self.http else { return false };
        let is_reset = http.reset_oldest(kept, &mut self.out);
        self.writable(tally);
        is_reset
    }

    /// The socket can be written to.
    pub(crate) fn writable(&mut self, tally: &mut Tally) {
        if let Err(error) = self.write() {
            tally.fail(|| format!("writing: {error}"));
        }
    }

    /// The socket can be read from. Events are edge-triggered: it is read until it has no more.
    pub(crate) fn readable(&mut self, scratch: &mut Scratch, tally: &mut Tally) {
        let Scratch { wire, plain } = scratch;
        while tally.failure.is_none() {
            let read = match self.socket.read(wire) {
                Ok(0) => return tally.fail(|| "the server closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return tally.fail(|| format!("reading: {error}")),
            };
            if self.tls.is_some() {
                if let Err(error) = self.decrypt(&wire[..read], plain, tally) {
                    tally.fail(|| format!("TLS: {error}"));
                }
            } else {
                self.http.feed(&wire[..read], &mut self.out, tally);
            }
            if !self.out.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
                self.writable(tally);
            }
            // A short read has emptied the socket (epoll(7), question 9): what comes now raises a new event.
            if read < wire.len() {
                return;
            }
        }
    }

    fn decrypt(&mut self, mut wire: &[u8], plain: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while !wire.is_empty() {
            tls.read_tls(&mut wire)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let read = tls.reader().read(plain)?;
                self.http.feed(&plain[..read], &mut self.out, tally);
                left -= read;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let Self { socket, tls, out, .. } = self;
        if let Some(tls) = tls {
            if !out.is_empty() {
                tls.writer().write_all(out)?;
                out.clear();
            }
            while tls.wants_write() {
                match tls.write_tls(socket) {
                    Err(error) if is_for_later(&error) => return Ok(()),
                    result => result?,
                };
            }
            return Ok(());
        }
        while !out.is_empty() {
            match socket.write(out) {
                Err(error) if is_for_later(&error) => return Ok(()),
                result => drop(out.drain(..result?)),
            }
        }
        Ok(())
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A reset: thousands of sockets in TIME_WAIT would be in the way of the next round.
        drop(SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO)));
    }
}

impl Http {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>, tally: &mut Tally) {
        match self {
            Self::One(http) => http.feed(bytes, tally),
            Self::Two(http) => http.feed(bytes, out, tally),
        }
    }
}
