//! One connection to the bus: reads commands, writes replies and messages.
//!
//! Owns the read buffer, and the order of reads and writes. The commands are in `command`.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use ssegate_resp::{Limits, ProtocolError, RequestDecoder, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::command::{BusClient, CommandFlow};
use super::outbox::Outbox;
use super::settings::BusSettings;
use super::warning::BusWarning;

/// Bytes per read, at most. A message that is kept keeps this many bytes alive.
const MAX_READ: usize = 16 << 10;

/// While this many bytes are queued, no more commands are read: a client that does not read its
/// replies is not served, and costs no memory.
const MAX_UNREAD_REPLY_BYTES: usize = 1 << 20;

/// How long the remaining replies may take after a client has closed its sending side or sent QUIT.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a session ended.
#[derive(Debug)]
enum SessionEnd {
    /// The client closed the connection, or sent QUIT.
    Closed,
    /// The bus was stopped.
    Stopped,
    /// A subscriber did not read, and its queue was full.
    SlowSubscriber,
    /// All connections together held too much, and this one had been idle for longest.
    Memory,
    /// An HTTP request: from a web page, or sent to the wrong port.
    Http,
    Failed(io::Error),
}

/// One connection.
pub(super) struct BusSession {
    client: BusClient,
    outbox: Rc<Outbox>,
    broker: Broker,
    peer: SocketAddr,
    decoder: RequestDecoder,
    buf: BytesMut,
    /// Whether `buf` may contain a complete command.
    has_commands: bool,
}

/// Serves one connection until it closes or `stop` is cancelled: what [`serve`](super::serve) does with
/// each that it accepts. `peer` is for the log.
pub async fn serve_connection(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    peer: SocketAddr,
    broker: Broker,
    stop: CancellationToken,
) {
    BusSession::new(&broker, peer).run(reader, writer, stop).await;
}

/// Counts and logs why a session ended.
fn record_end(end: SessionEnd, peer: SocketAddr, broker: &Broker) {
    match end {
        SessionEnd::SlowSubscriber => {
            broker.counters().subscriber_was_slow();
            broker.warn(BusWarning::SlowSubscriber, |held_back| {
                const MESSAGE: &str =
                    "embedded bus: slow subscriber disconnected: output queue is full";
                tracing::warn!(%peer, held_back, "{MESSAGE}");
            });
        }
        SessionEnd::Memory => broker.warn(BusWarning::Memory, |held_back| {
            const MESSAGE: &str = "embedded bus: limits.bus_memory reached: idle connection closed";
            tracing::warn!(%peer, held_back, "{MESSAGE}");
        }),
        SessionEnd::Http => {
            broker.counters().http_request_closed();
            broker.warn(BusWarning::Http, |held_back| {
                const MESSAGE: &str =
                    "HTTP request on the port of the embedded bus, connection closed";
                tracing::warn!(%peer, held_back, "{MESSAGE}");
            });
        }
        SessionEnd::Failed(error) => {
            tracing::debug!(%peer, %error, "embedded bus: connection failed");
        }
        SessionEnd::Closed | SessionEnd::Stopped => {
            tracing::debug!(%peer, "embedded bus: connection closed");
        }
    }
}

impl BusSession {
    fn new(broker: &Broker, peer: SocketAddr) -> Self {
        Self::with_outbox(broker, peer, broker.outbox())
    }

    /// The session of a connection from within the process.
    pub(super) fn own(broker: &Broker) -> Self {
        let nowhere = ([0, 0, 0, 0], 0).into();
        Self::with_outbox(broker, nowhere, Rc::new(Outbox::own()))
    }

    fn with_outbox(broker: &Broker, peer: SocketAddr, outbox: Rc<Outbox>) -> Self {
        let number = broker.counters().session_opened();
        Self {
            client: BusClient::new(broker.clone(), Rc::clone(&outbox), peer, number),
            outbox,
            broker: broker.clone(),
            peer,
            decoder: RequestDecoder::new(Limits::with_max_bulk(broker.settings().max_event_bytes)),
            buf: BytesMut::new(),
            has_commands: false,
        }
    }

    /// Serves the connection until it closes or `stop` is cancelled.
    pub(super) async fn run(
        mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        stop: CancellationToken,
    ) {
        let end = self.serve(&mut reader, &mut writer, &stop).await;
        record_end(end, self.peer, &self.broker);
    }

    async fn serve(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        stop: &CancellationToken,
    ) -> SessionEnd {
        loop {
            if self.outbox.is_closed_for_memory() {
                return SessionEnd::Memory;
            }
            if self.outbox.has_overflowed() {
                return SessionEnd::SlowSubscriber;
            }
            let is_blocked = self.client.is_blocked();
            let has_room = self.outbox.len() < MAX_UNREAD_REPLY_BYTES;
            if has_room && self.has_commands && !is_blocked {
                match self.run_batch() {
                    CommandFlow::Continue => continue,
                    CommandFlow::Close => return self.finish(writer).await,
                    CommandFlow::Abort => return SessionEnd::Http,
                }
            }
            if is_blocked {
                // What was read behind the command that waits.
                self.record_input();
            }
            // A blocked client is read, too: it may close the connection.
            let may_read = has_room && !(is_blocked && self.buf.len() >= self.max_blocked_input());
            let block_ends = self.client.block_ends();
            tokio::select! {
                biased;
                () = stop.cancelled() => return SessionEnd::Stopped,
                written = self.outbox.write_to(writer), if !self.outbox.is_empty() => {
                    if let Err(error) = written {
                        return SessionEnd::Failed(error);
                    }
                }
                () = self.outbox.changed() => {}
                () = at(block_ends), if is_blocked => self.client.end_block(),
                read = read_some(reader, &mut self.buf), if may_read => match read {
                    Ok(0) => {
                        self.client.release();
                        return self.finish(writer).await;
                    }
                    Ok(_) => self.has_commands = true,
                    Err(error) => return SessionEnd::Failed(error),
                },
            }
        }
    }

    /// Writes what is queued, for a client that sends nothing more but may still read.
    async fn finish(&self, writer: &mut (impl AsyncWrite + Unpin)) -> SessionEnd {
        let all = async {
            while !self.outbox.is_empty() {
                self.outbox.write_to(writer).await?;
            }
            Ok(())
        };
        match time::timeout(LAST_WRITE_TIMEOUT, all).await {
            Ok(Err(error)) => SessionEnd::Failed(error),
            Ok(Ok(())) | Err(_) => SessionEnd::Closed,
        }
    }

    /// Runs the commands that were read as one batch, then flushes the outlets.
    fn run_batch(&mut self) -> CommandFlow {
        let mut next = CommandFlow::Continue;
        while matches!(next, CommandFlow::Continue)
            && self.outbox.len() < MAX_UNREAD_REPLY_BYTES
            && !self.client.is_blocked()
        {
            match self.decoder.decode(&mut self.buf) {
                Ok(Some(request)) => next = self.client.run(request),
                Ok(None) => {
                    self.has_commands = false;
                    break;
                }
                Err(error) => next = self.protocol_error(error),
            }
        }
        self.client.flush_outlets();
        self.record_input();
        next
    }

    /// Counts what was read and is not done.
    fn record_input(&self) {
        let unfinished = self.decoder.held_bytes() + self.buf.len();
        self.outbox.record_read(unfinished + self.client.held_bytes());
        self.client.enforce_memory();
    }

    /// While a client is blocked, this much of what follows is read, in bytes: any one command.
    fn max_blocked_input(&self) -> usize {
        BusSettings::least_memory(self.broker.settings().max_event_bytes)
    }

    fn protocol_error(&self, error: ProtocolError) -> CommandFlow {
        self.outbox.reply(Value::Error(format!("ERR Protocol error: {error}").into()));
        CommandFlow::Close
    }
}

impl Drop for BusSession {
    fn drop(&mut self) {
        self.broker.counters().session_closed();
    }
}

/// Waits until `deadline`; for ever if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn read_some(reader: &mut (impl AsyncRead + Unpin), buf: &mut BytesMut) -> io::Result<usize> {
    buf.reserve(MAX_READ);
    // At most `MAX_READ` bytes, even if the buffer has more space, so that a batch stays short.
    reader.take(MAX_READ as u64).read_buf(buf).await
}
