//! A connection to Redis: sends commands, reads replies and push messages.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use redis::ConnectionAddr;
use ssegate_hub::Subscription;
use ssegate_resp::{Limits, RespVersion, Value, ValueDecoder};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::error::SourceError;
use super::socket::{self, RedisIo, RedisTls};

/// The id of a connection for which Redis does not report one.
pub(super) const NO_ID: i64 = 0;

const READ_BUFFER: usize = 64 << 10;

/// A connection. [`RedisConnection::open`] completes its handshake.
pub(super) struct RedisConnection {
    stream: Box<dyn RedisIo>,
    input: BytesMut,
    decoder: ValueDecoder,
    output: BytesMut,
    // Bytes were written that TLS may still buffer.
    is_unflushed: bool,
    // The id of the connection (`CLIENT ID`), or [`NO_ID`].
    pub(super) id: i64,
    pub(super) kind: ConnectionKind,
    pub(super) version: RespVersion,
    // Whether a sentinel is at the other end, if it says so.
    pub(super) is_sentinel: Option<bool>,
    // Completes when the connection must not be used any more.
    pub(super) moved: Option<ConnectionMoved>,
    // The server that it leads to, unless that is configured.
    pub(super) server: Option<ConnectionAddr>,
}

/// Completes when the server is not the right one any more.
pub(super) type ConnectionMoved = Pin<Box<dyn Future<Output = SourceError>>>;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionKind {
    /// Receives pub/sub messages, which do not belong to a database.
    PubSub,
    /// Sends commands about keys, which belong to a database.
    Command,
}

/// Elements in a reply with many stream entries, at most.
const MAX_ELEMENTS: usize = 8 << 20;

impl RedisConnection {
    /// Connects by `deadline`. The handshake comes next.
    pub(super) async fn connect(
        (address, tls): (&ConnectionAddr, &RedisTls),
        max_event_bytes: usize,
        kind: ConnectionKind,
        deadline: Instant,
    ) -> Result<Self, SourceError> {
        let stream = socket::connect(address, tls, deadline).await?;
        Ok(Self::over(stream, max_event_bytes, kind))
    }

    /// A connection over `stream`. The handshake comes next.
    pub(super) fn over(
        stream: Box<dyn RedisIo>,
        max_event_bytes: usize,
        kind: ConnectionKind,
    ) -> Self {
        let limits = Limits::with_max_bulk(max_event_bytes);
        let limits = match kind {
            ConnectionKind::PubSub => limits,
            ConnectionKind::Command => Limits { max_elements: MAX_ELEMENTS, ..limits },
        };
        Self {
            stream,
            input: BytesMut::with_capacity(READ_BUFFER),
            decoder: ValueDecoder::new(limits),
            output: BytesMut::new(),
            is_unflushed: false,
            id: NO_ID,
            kind,
            version: RespVersion::Resp3,
            is_sentinel: None,
            moved: None,
            server: None,
        }
    }

    /// Queues a command, which [`RedisConnection::exchange`] sends.
    pub(super) fn queue<'a>(
        &mut self,
        name: &str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
    ) {
        ssegate_resp::encode_command(name, arguments, &mut self.output);
    }

    /// Queues a command given as words of any bytes, its name first.
    pub(super) fn queue_bytes(&mut self, words: &[Bytes]) {
        ssegate_resp::encode_words(words, &mut self.output);
    }

    /// The number of bytes of queued commands of which nothing was written yet.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.output.len()
    }

    /// Sends a command and waits for its reply. Not for a pub/sub connection, where the next value
    /// may be a push message.
    pub(super) async fn request<'a>(
        &mut self,
        name: &str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Value, SourceError> {
        self.queue(name, arguments);
        match self.read_value().await? {
            Value::Error(message) => {
                Err(SourceError::Refused(String::from_utf8_lossy(&message).into()))
            }
            reply => Ok(reply),
        }
    }

    /// Sends `SUBSCRIBE` or `PSUBSCRIBE` for one name, and waits until Redis confirms or refuses
    /// it. Drops messages that arrive meanwhile. Only for a connection without other pending
    /// replies.
    pub(super) async fn subscribe(
        &mut self,
        Subscription { name, is_pattern }: &Subscription,
    ) -> Result<(), SourceError> {
        let command = if *is_pattern { "PSUBSCRIBE" } else { "SUBSCRIBE" };
        self.subscribe_by(command, name.as_str()).await
    }

    /// As [`Self::subscribe`], with any command that subscribes.
    pub(super) async fn subscribe_by(
        &mut self,
        command: &str,
        name: &str,
    ) -> Result<(), SourceError> {
        self.queue(command, [name].into_iter());
        loop {
            match self.read_value().await? {
                Value::Error(message) => {
                    return Err(SourceError::Refused(String::from_utf8_lossy(&message).into()));
                }
                Value::Push(parts) if confirms(&parts, command, name) => return Ok(()),
                Value::Push(_) => {}
                other => return Err(SourceError::Unexpected(format!("{other:?}"))),
            }
        }
    }

    /// Reads the next value: a reply, or a push message. Cancel safe.
    pub(super) async fn read_value(&mut self) -> Result<Value, SourceError> {
        loop {
            match self.next_value()? {
                Some(value) => return Ok(value),
                None => self.exchange().await?,
            }
        }
    }

    /// The id of the connection (`CLIENT ID`).
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Writes queued commands and reads; returns when something was read. Reading never waits for
    /// writing, because Redis disconnects clients that do not read their output. Cancel safe.
    pub(super) async fn exchange(&mut self) -> Result<(), SourceError> {
        self.stream.register().map_err(SourceError::ConnectionLost)?;
        self.input.reserve(READ_BUFFER / 4);
        let exchanged = poll_fn(|cx| self.poll_exchange_or_move(cx)).await;
        exchanged.map_err(|error| self.at_its_server(error))
    }

    /// As [`Self::exchange`], for a caller that waits for several connections. A connection that is polled
    /// in this way does not [pause](Self::pause).
    pub(super) fn poll_exchanged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SourceError>> {
        self.input.reserve(READ_BUFFER / 4);
        let exchanged = ready!(self.poll_exchange_or_move(cx));
        Poll::Ready(exchanged.map_err(|error| self.at_its_server(error)))
    }

    /// Adds the address of the server to the error, unless the address is configured.
    fn at_its_server(&self, error: SourceError) -> SourceError {
        match &self.server {
            Some(address) => error.at_server(address),
            None => error,
        }
    }

    fn poll_exchange_or_move(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SourceError>> {
        if let Some(moved) = &mut self.moved
            && let Poll::Ready(error) = moved.as_mut().poll(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(match ready!(self.poll_exchange(cx)) {
            Ok(0) => Err(SourceError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(SourceError::ConnectionLost(error)),
        })
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        pin!(self.stream.read_buf(&mut self.input)).poll(cx)
    }

    /// Writes what the socket accepts, and flushes.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            if ready!(pin!(self.stream.write_buf(&mut self.output)).poll(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_unflushed = true;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until `until` without being woken by arriving data. Reads and writes nothing. Cancel
    /// safe: the socket stays deregistered until the next read.
    pub(super) async fn pause(&mut self, until: Instant) -> Result<(), SourceError> {
        self.stream.deregister().map_err(SourceError::ConnectionLost)?;
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// Returns the next value that was read; `None` if more bytes are needed.
    pub(super) fn next_value(&mut self) -> Result<Option<Value>, SourceError> {
        let value = self.decoder.decode(&mut self.input)?;
        Ok(value.map(|value| self.normalize_push(value)))
    }

    /// Converts a RESP2 array on a pub/sub connection to the push message that RESP3 would send.
    fn normalize_push(&self, value: Value) -> Value {
        let Value::Array(parts) = value else { return value };
        if self.version == RespVersion::Resp3 || self.kind != ConnectionKind::PubSub {
            return Value::Array(parts);
        }
        match parts.first() {
            // The reply to PING while subscribed (RESP2 only).
            Some(Value::Bulk(kind)) if kind == "pong" => Value::Simple(kind.clone()),
            _ => Value::Push(parts),
        }
    }
}

/// Whether a push message confirms this command for this name
/// (<https://redis.io/docs/latest/develop/pubsub/#format-of-pushed-messages>).
fn confirms(push: &[Value], command: &str, name: &str) -> bool {
    let text = |at: usize| push.get(at).and_then(Value::as_bytes);
    text(0).is_some_and(|kind| kind.eq_ignore_ascii_case(command.as_bytes()))
        && text(1).is_some_and(|confirmed| confirmed[..] == *name.as_bytes())
}

impl fmt::Debug for RedisConnection {
    /// Omits the buffers: the password passes through one of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").finish_non_exhaustive()
    }
}
