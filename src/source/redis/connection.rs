//! A connection to Redis: TCP, TLS or a unix socket, greeted with `HELLO 3`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use redis::{ConnectionAddr, ConnectionInfo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::error::SourceError;
use crate::source::resp::{Decoder, Limits, Value};
use crate::tls_client::{self, Trust};

/// From the first packet to the answer to `HELLO`.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Unacknowledged data for so long ends the connection, as does a silent peer.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BUFFER: usize = 64 << 10;

/// Any byte stream to Redis.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Whom we trust where the address says TLS. Made once: the system's roots are many.
#[derive(Clone, Debug)]
pub(super) struct Tls(Option<Arc<ClientConfig>>);

impl Tls {
    pub(super) fn new(address: &ConnectionAddr) -> Self {
        let ConnectionAddr::TcpTls { insecure, .. } = address else {
            return Self(None);
        };
        let trust = if *insecure { Trust::Anybody } else { Trust::SystemRootsAnd(Vec::new()) };
        Self(Some(Arc::new(tls_client::config(trust))))
    }
}

/// A greeted connection, split into its two directions.
pub(super) struct Connection {
    reader: tokio::io::ReadHalf<Box<dyn Stream>>,
    writer: tokio::io::WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    decoder: Decoder,
    output: BytesMut,
    // Something was written that TLS may still hold back.
    is_unflushed: bool,
    // What Redis calls this connection.
    id: i64,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To listen to what is published, which knows no databases.
    Listen,
    /// To ask for data, which is in one of the databases.
    Ask,
}

/// Elements in an answer that has many entries of streams.
const MAX_ELEMENTS: usize = 8 << 20;

impl Connection {
    /// Connects and greets, within [`CONNECT_TIMEOUT`].
    pub(super) async fn open(
        info: &ConnectionInfo,
        tls: &Tls,
        max_event_bytes: usize,
        purpose: Purpose,
    ) -> Result<Self, SourceError> {
        let opening = async {
            let (reader, writer) = tokio::io::split(connect(info.addr(), tls).await?);
            let limits = match purpose {
                Purpose::Listen => Limits::with_max_bulk(max_event_bytes),
                Purpose::Ask => {
                    let max_elements = MAX_ELEMENTS;
                    Limits { max_elements, ..Limits::with_max_bulk(max_event_bytes) }
                }
            };
            let mut connection = Self {
                reader,
                writer,
                input: BytesMut::with_capacity(READ_BUFFER),
                decoder: Decoder::new(limits),
                output: BytesMut::new(),
                is_unflushed: false,
                id: 0,
            };
            connection.greet(info).await?;
            let database = info.redis_settings().db();
            if purpose == Purpose::Ask && database != 0 {
                connection.ask("SELECT", [database.to_string().as_str()].into_iter()).await?;
            }
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .unwrap_or(Err(SourceError::Timeout(CONNECT_TIMEOUT.as_secs())))
    }

    /// Queues a command. It leaves with [`Connection::exchange`].
    pub(super) fn send<'a>(
        &mut self,
        name: &str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
    ) {
        put_header(&mut self.output, b'*', arguments.len() + 1);
        put_bulk(&mut self.output, name);
        for argument in arguments {
            put_bulk(&mut self.output, argument);
        }
    }

    /// Sends a command, and waits for its answer. Not for a connection that listens: there, what comes
    /// next may be no answer.
    pub(super) async fn ask<'a>(
        &mut self,
        name: &str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Value, SourceError> {
        self.send(name, arguments);
        match self.answer().await? {
            Value::Error(message) => {
                Err(SourceError::Refused(String::from_utf8_lossy(&message).into()))
            }
            answer => Ok(answer),
        }
    }

    /// Waits for the next value. Cancel safe.
    pub(super) async fn answer(&mut self) -> Result<Value, SourceError> {
        loop {
            match self.next_value()? {
                Some(answer) => return Ok(answer),
                None => self.exchange().await?,
            }
        }
    }

    /// What Redis calls this connection (`CLIENT ID`).
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Writes what is queued while it reads, and returns when something was read. The reader never
    /// waits for the writer: Redis would cut off one that does not read. Cancel safe.
    pub(super) async fn exchange(&mut self) -> Result<(), SourceError> {
        loop {
            let Self { reader, writer, input, output, is_unflushed, .. } = self;
            input.reserve(READ_BUFFER / 4);
            let has_output = !output.is_empty() || *is_unflushed;
            tokio::select! {
                read = reader.read_buf(input) => return match read {
                    Ok(0) => Err(SourceError::Closed),
                    Ok(_) => Ok(()),
                    Err(error) => Err(SourceError::Broken(error)),
                },
                written = write(writer, output, is_unflushed), if has_output => {
                    written.map_err(SourceError::Broken)?;
                }
            }
        }
    }

    /// The next value among what was read; `None`: read on.
    pub(super) fn next_value(&mut self) -> Result<Option<Value>, SourceError> {
        Ok(self.decoder.decode(&mut self.input)?)
    }

    /// `HELLO 3` with user, password and name (<https://redis.io/docs/latest/commands/hello/>).
    async fn greet(&mut self, info: &ConnectionInfo) -> Result<(), SourceError> {
        let settings = info.redis_settings();
        let mut arguments = vec!["3"];
        if let Some(password) = settings.password() {
            arguments.extend(["AUTH", settings.username().unwrap_or("default"), password]);
        }
        arguments.extend(["SETNAME", "ssegate"]);
        let Value::Map(server) = self.ask("HELLO", arguments.into_iter()).await? else {
            return Err(SourceError::Unexpected("to HELLO".into()));
        };
        let id = server.iter().find(|(key, _)| key.as_bytes().is_some_and(|key| key == "id"));
        if let Some((_, Value::Integer(id))) = id {
            self.id = *id;
        }
        Ok(())
    }
}

/// Writes what it can, and flushes. Cancel safe: what was written is gone from `output`.
async fn write(
    writer: &mut tokio::io::WriteHalf<Box<dyn Stream>>,
    output: &mut BytesMut,
    is_unflushed: &mut bool,
) -> io::Result<()> {
    if !output.is_empty() {
        writer.write_buf(output).await?;
        *is_unflushed = true;
    }
    writer.flush().await?;
    *is_unflushed = false;
    Ok(())
}

async fn connect(address: &ConnectionAddr, tls: &Tls) -> Result<Box<dyn Stream>, SourceError> {
    match address {
        ConnectionAddr::Tcp(host, port) => Ok(Box::new(connect_tcp(host, *port).await?)),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let stream = connect_tcp(host, *port).await?;
            let name = ServerName::try_from(host.clone())
                .map_err(|_invalid| SourceError::Resolve(host.clone()))?;
            let config = tls.0.clone().ok_or_else(|| SourceError::Resolve(host.clone()))?;
            let connector = TlsConnector::from(config);
            Ok(Box::new(connector.connect(name, stream).await.map_err(SourceError::Tls)?))
        }
        ConnectionAddr::Unix(path) => {
            Ok(Box::new(UnixStream::connect(path).await.map_err(SourceError::Connect)?))
        }
        other => Err(SourceError::Resolve(format!("{other}"))),
    }
}

/// Resolves anew each time: an address behind a name may have changed. Each of several addresses has
/// its share of the time, so that one that does not answer does not hide the others.
async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, SourceError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| SourceError::Resolve(format!("{host}: {error}")))?
        .collect();
    let share = CONNECT_TIMEOUT / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut failure = SourceError::Resolve(host.into());
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream).map_err(SourceError::Connect)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = SourceError::Connect(error),
            Err(_elapsed) => failure = SourceError::Timeout(CONNECT_TIMEOUT.as_secs()),
        }
    }
    Err(failure)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(USER_TIMEOUT))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

fn put_header(output: &mut BytesMut, kind: u8, number: usize) {
    output.put_u8(kind);
    output.put_slice(number.to_string().as_bytes());
    output.put_slice(b"\r\n");
}

fn put_bulk(output: &mut BytesMut, text: &str) {
    put_header(output, b'$', text.len());
    output.put_slice(text.as_bytes());
    output.put_slice(b"\r\n");
}

impl fmt::Debug for Connection {
    /// Leaves out the buffers: the password went through one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
