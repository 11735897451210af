//! A set of followed streams, and the connection that blocks in `XREAD` for all of them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use redis::ConnectionAddr;
use ssegate_hub::ChannelName;
use ssegate_resp::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ReaderState;
use super::entry::{EntriesReply, ReplyBudget};
use crate::source::redis::cluster::Redirect;
use crate::source::redis::connection::{ConnectionKind, NO_ID, RedisConnection};
use crate::source::redis::error::{SourceError, SourceErrorKind};
use crate::source::redis::retry::RETRY_INTERVAL;

/// Streams per connection, at most: each command names all of them.
pub(super) const MAX_STREAMS: usize = 1000;
/// The `BLOCK` timeout of `XREAD`.
const BLOCK: Duration = Duration::from_secs(5);
/// The same for a connection that `CLIENT UNBLOCK` cannot reach.
const SHORT_BLOCK: Duration = Duration::from_millis(250);
/// The connection is closed if the reply takes longer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Entries in one reply, over all streams, at most.
const MAX_ENTRIES: usize = 16_384;
/// Entries of one stream in one reply, at most.
const MAX_ENTRIES_PER_STREAM: usize = 512;
/// Entries delivered to the hub as one batch.
const BATCH: usize = 512;

/// The `BLOCK` timeout in a Cluster: nothing wakes a connection that waits for a stream that moves to another
/// node.
const CLUSTER_BLOCK: Duration = Duration::from_secs(1);

/// The streams of one connection, and its state.
#[derive(Debug, Default)]
pub(super) struct BlockingReader {
    // In a Cluster, the slot of all its streams: one command may only name keys of one slot.
    slot: Option<u16>,
    /// The node of a Cluster that it is connected to, or connects to.
    pub(super) node: RefCell<Option<ConnectionAddr>>,
    pub(super) names: RefCell<HashSet<ChannelName>>,
    // Incremented when the streams or their positions change.
    version: Cell<u64>,
    // The version for which `XREAD` is blocked.
    blocked_version: Cell<Option<u64>>,
    changed: Notify,
    /// The id of the connection (`CLIENT ID`).
    pub(super) connection_id: Cell<i64>,
    /// The slot of a Cluster is on its way to another node.
    pub(super) is_moving: Cell<bool>,
    /// Redis refused the `XREAD`: one of the keys may not be a stream, or may be denied.
    pub(super) is_refused: Cell<bool>,
}

impl BlockingReader {
    /// Creates a reader for streams of this slot of a Cluster.
    pub(super) fn of_slot(slot: Option<u16>) -> Self {
        Self { slot, ..Self::default() }
    }

    /// Whether it may read one more stream, of this slot.
    pub(super) fn has_capacity(&self, slot: Option<u16>) -> bool {
        self.slot == slot && self.names.borrow().len() < MAX_STREAMS
    }

    /// Records that the streams or their positions have changed.
    pub(super) fn mark_changed(&self) {
        self.version.set(self.version.get() + 1);
        self.changed.notify_one();
    }

    /// Whether the blocked `XREAD` is outdated, so that the connection is to be unblocked.
    pub(super) fn is_outdated(&self) -> bool {
        self.blocked_version.get().is_some_and(|version| version != self.version.get())
    }

    /// Reads until the connection fails.
    pub(super) async fn run(self: Rc<Self>, state: Rc<ReaderState>) -> SourceError {
        let most = state.max_event_bytes;
        let mut connection = match self.open(&state, most).await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        self.connection_id.set(connection.id());
        state.add_connections(1);
        let Err(error) = self.read_streams(&mut connection, &state).await;
        state.add_connections(-1);
        error
    }

    async fn open(&self, state: &ReaderState, most: usize) -> Result<RedisConnection, SourceError> {
        let Some(slot) = self.slot else {
            return state.server.open(most, ConnectionKind::Command).await;
        };
        let node = state.server.owner(slot)?;
        self.node.replace(Some(node.clone()));
        let opened = state.server.open_node(node.clone(), most).await;
        if opened.is_ok()
            && let Some(outages) = &mut *state.reader_outages.borrow_mut()
        {
            outages.open(Some(&node));
        }
        opened
    }

    async fn read_streams(
        &self,
        connection: &mut RedisConnection,
        state: &ReaderState,
    ) -> Result<std::convert::Infallible, SourceError> {
        let mut max_entries = MAX_ENTRIES_PER_STREAM;
        let mut next_refusal = Instant::now();
        loop {
            let version = self.version.get();
            let (names, positions) = self.positions(state);
            if names.is_empty() && self.slot.is_some() {
                return Err(SourceError::Redirected("nothing is read any more".to_owned()));
            }
            if names.is_empty() || self.is_refused.get() {
                self.changed.notified().await;
                continue;
            }
            let count = max_entries.min(MAX_ENTRIES / names.len()).max(1);
            // A connection that cannot be unblocked returns more often, to include new streams.
            let can_unblock = connection.id() != NO_ID && state.can_unblock.get();
            let block = match (can_unblock, self.slot) {
                (false, _) => SHORT_BLOCK,
                (true, None) => BLOCK,
                (true, Some(_)) => CLUSTER_BLOCK,
            };
            queue_xread(connection, (count, block), &names, &positions);
            self.blocked_version.set(Some(version));
            let reply = tokio::time::timeout(REPLY_TIMEOUT, connection.read_value()).await;
            self.blocked_version.set(None);
            let reply =
                reply.map_err(|_elapsed| SourceError::Unresponsive(REPLY_TIMEOUT.as_secs()))??;
            match reply {
                // The block timed out or was ended by `CLIENT UNBLOCK`.
                Value::Null => {}
                reply @ (Value::Map(_) | Value::Array(_)) => {
                    let streams = parse_streams(reply)
                        .ok_or_else(|| SourceError::Unexpected("invalid reply to XREAD".into()))?;
                    let is_truncated = self.deliver(streams, state).await?;
                    // Request less: most of a reply that is too long is discarded.
                    max_entries = if is_truncated {
                        (max_entries / 4).max(1)
                    } else {
                        (max_entries * 2).min(MAX_ENTRIES_PER_STREAM)
                    };
                }
                Value::Error(message) => {
                    self.check_redirect(&message, state)?;
                    let error = SourceError::Refused(String::from_utf8_lossy(&message).into());
                    let error = error.for_command(describe(&names));
                    if matches!(error.kind(), SourceErrorKind::Auth | SourceErrorKind::Busy) {
                        return Err(error);
                    }
                    state.report(&error, "Redis refused to read streams");
                    self.is_refused.set(true);
                    state.reader_refused.notify_one();
                    // Streams that are refused together but not alone would be retried without a
                    // pause.
                    tokio::time::sleep_until(next_refusal).await;
                    next_refusal = Instant::now() + RETRY_INTERVAL;
                }
                other => return Err(SourceError::Unexpected(format!("{other:?}"))),
            }
        }
    }

    fn positions(&self, state: &ReaderState) -> (Vec<ChannelName>, Vec<String>) {
        let streams = state.streams.borrow();
        let position = |name: &ChannelName| {
            let last = streams.get(name)?.last?;
            Some((name.clone(), last.to_string()))
        };
        self.names.borrow().iter().filter_map(position).unzip()
    }

    /// Delivers the entries. Returns whether the reply was too long and has been truncated.
    async fn deliver(
        &self,
        streams: Vec<(Value, Value)>,
        state: &ReaderState,
    ) -> Result<bool, SourceError> {
        let received = Instant::now();
        let mut budget = ReplyBudget::default();
        let mut delivered = 0;
        let mut is_truncated = false;
        for (name, entries) in streams {
            // Truncated before the name.
            let Value::Bulk(name) = name else {
                is_truncated = true;
                break;
            };
            let Ok(name) = str::from_utf8(&name) else { continue };
            let entries = EntriesReply::parse(entries, &mut budget, state.max_event_bytes)
                .ok_or_else(|| SourceError::Unexpected("invalid stream entries".into()))?;
            is_truncated |= entries.is_truncated;
            for entry in entries.entries {
                // The stream may have been unfollowed meanwhile.
                if self.names.borrow().contains(name) {
                    state.deliver(name, &entry, received);
                }
                delivered += 1;
                if delivered == BATCH {
                    state.flush(std::mem::take(&mut delivered) as u64);
                    tokio::task::yield_now().await;
                }
            }
            if is_truncated {
                break;
            }
        }
        state.flush(delivered as u64);
        Ok(is_truncated)
    }

    /// Handles an error reply that is a redirection in a Cluster. Returns `Ok` for any other error.
    ///
    /// # Errors
    /// The streams have to be read from another node, or later.
    fn check_redirect(&self, message: &[u8], state: &ReaderState) -> Result<(), SourceError> {
        let (node, cluster) = (self.node.borrow(), state.server.cluster());
        let (Some(node), Some((_, cluster)), Some(_)) = (&*node, cluster, self.slot) else {
            return Ok(());
        };
        match Redirect::of(message, node) {
            None => return Ok(()),
            Some(Redirect::Moved(slot, owner)) => cluster.moved(slot, &owner),
            Some(Redirect::Wait) => cluster.outdate(),
            Some(Redirect::Ask(_) | Redirect::TryAgain) => self.is_moving.set(true),
        }
        Err(SourceError::Redirected(String::from_utf8_lossy(message).into_owned()))
    }
}

/// Describes a refused `XREAD`. Redis does not say which stream it means, so each is then tried
/// alone.
fn describe(names: &[ChannelName]) -> String {
    match names {
        [name] => format!("XREAD of the stream {name:?}"),
        [name, others @ ..] => format!("XREAD of {name:?} and {} more streams", others.len()),
        [] => "XREAD".to_owned(),
    }
}

/// The streams of a reply with their entries; in RESP2 each pair is an array.
pub(super) fn parse_streams(reply: Value) -> Option<Vec<(Value, Value)>> {
    let pair = |pair| match pair {
        Value::Array(pair) => {
            <[Value; 2]>::try_from(pair).ok().map(|[name, entries]| (name, entries))
        }
        _ => None,
    };
    match reply {
        Value::Map(streams) => Some(streams),
        Value::Array(streams) => streams.into_iter().map(pair).collect(),
        _ => None,
    }
}

/// `XREAD COUNT … BLOCK … STREAMS name … id …` (<https://redis.io/docs/latest/commands/xread/>).
fn queue_xread(
    connection: &mut RedisConnection,
    (count, block): (usize, Duration),
    names: &[ChannelName],
    positions: &[String],
) {
    let (count, block) = (count.to_string(), block.as_millis().to_string());
    let mut arguments = vec!["COUNT", &count, "BLOCK", &block, "STREAMS"];
    arguments.extend(names.iter().map(ChannelName::as_str));
    arguments.extend(positions.iter().map(String::as_str));
    connection.queue("XREAD", arguments.into_iter());
}
