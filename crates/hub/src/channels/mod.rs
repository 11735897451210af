//! The hub: every channel that is followed, and the shards that get its events.
//!
//! Lives on one thread, beside the sources. An event gets its number, is encoded once, kept in the
//! channel's history, and put into the batch of each shard that has joined the channel; the batches leave at
//! [`Hub::flush`], when the source has nothing more to read. Subscribers are not known here, only shards.

mod asking;
mod busiest;
mod catch_up;
mod channel;
mod confirm;
mod delivery;
mod ended;
mod feeding;
mod fleet;
mod fleet_api;
mod follow;
mod followed;
mod hole;
mod hub_state;
mod inherit;
mod lingering;
mod locate;
mod log_replay;
mod logs;
mod name_index;
mod numbers;
mod opening;
mod orders;
mod pending_log_read;
mod replay;
mod retention;
mod sharded_api;
mod snapshot;
mod warm_up;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ssegate_format::Format;
use ssegate_sse::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::busiest::BusyChannel;
pub use self::fleet_api::HubOrder;
use self::hub_state::HubState;
pub use self::inherit::Continued;
use super::fleet::order_id::OrderId;
use super::fleet::requests::FleetRequests;
use super::gap::GapReason;
use super::inbox::shard_sender::{ShardSender, ShardSenders};
use super::observer::Observer;
use super::position::event_id::RunTag;
use super::requests::shard_request::{JoinRequest, ShardRequest, ShardRequests};
use super::requests::source_request::{
    LogRead, LogReadKey, LogReadResult, SourceKind, SourceRequest, SourceRequests,
};
use super::settings::{HubSettings, MAX_SHARDS};
use super::shard::link::ShardLink;
use super::shard::queue_budget::QueueBudget;
use crate::{ChannelName, EntryId, Subscription};

/// How often the hub checks whether a shard that is behind has room for its backlog.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(50);

/// The hub: a cheap handle, for the one thread that it lives on.
#[derive(Clone)]
pub struct Hub {
    state: Rc<RefCell<HubState>>,
    shard_requests: Arc<ShardRequests>,
    source_requests: Rc<SourceRequests>,
    // Notified when a shard has fallen behind.
    behind: Rc<Notify>,
    queues: Arc<QueueBudget>,
    fleet_requests: Rc<FleetRequests>,
    fleet_timers: Rc<Notify>,
}

impl Hub {
    /// Returns a hub, and one link for each of `shards` shards, to be taken to their threads.
    pub fn new(
        settings: HubSettings,
        shards: usize,
        observer: impl Observer + 'static,
    ) -> (Self, Vec<ShardLink>) {
        debug_assert!(shards <= MAX_SHARDS);
        let run = RunTag::draw();
        let requests = Arc::new(ShardRequests::new());
        let queues = Arc::new(QueueBudget::new(settings.queue_memory, shards));
        let senders: Vec<ShardSender> = (0..shards).map(|_| ShardSender::new()).collect();
        let link = |(shard, sender): (usize, &ShardSender)| ShardLink {
            shard,
            run,
            inbox: sender.inbox(),
            requests: Arc::clone(&requests),
            queues: Arc::clone(&queues),
        };
        let links = senders.iter().enumerate().map(link).collect();
        let mut state =
            HubState::new(run, ShardSenders::new(senders), settings, Box::new(observer));
        state.change_followed(Instant::now());
        let hub = Self {
            source_requests: Rc::clone(&state.followed.requests),
            fleet_requests: Rc::clone(&state.fleet.requests),
            fleet_timers: Rc::clone(&state.fleet.timers),
            state: Rc::new(RefCell::new(state)),
            shard_requests: requests,
            behind: Rc::default(),
            queues,
        };
        (hub, links)
    }

    /// Serves the requests of the shards, and closes channels whose linger is over. Owned by the gateway;
    /// never returns, and ends when it is dropped.
    pub async fn run(&self) {
        loop {
            let linger_end = self.state.borrow().next_linger_end();
            let fleet_due = self.state.borrow().next_fleet_due();
            tokio::select! {
                () = self.shard_requests.wait() => self.serve_shards(),
                () = sleep_until(linger_end) => self.close_lingering(Instant::now()),
                () = sleep_until(fleet_due) => self.run_fleet(Instant::now()),
                // Something is due earlier.
                () = self.fleet_timers.notified() => {}
                // A backlog is sent also when nothing more is published. If another arm wins, the flush
                // below looks again.
                () = async {
                    self.behind.notified().await;
                    tokio::time::sleep(CATCH_UP_INTERVAL).await;
                } => {}
            }
            self.flush();
        }
    }

    /// Changes the settings, after a reload. If the histories exceed their common bound, some are evicted
    /// with the next event. If there are more channels than allowed, those with subscribers stay.
    pub fn change(&self, settings: HubSettings) {
        self.queues.set_max_bytes(settings.queue_memory);
        self.state.borrow_mut().change(settings);
        // Channels may linger for another time.
        self.behind.notify_one();
    }

    // For sources: what to follow.

    /// Takes the newest request for each subscription of a source; waits until there are any. Cancel safe.
    ///
    /// For a log that is to be followed, the source calls [`Hub::begin_log`], also if it reads the log
    /// already.
    pub async fn source_requests(
        &self,
        source: SourceKind,
    ) -> impl Iterator<Item = (Subscription, SourceRequest)> + use<> {
        let requests = self.source_requests.of(source);
        requests.wait().await;
        requests.take().into_iter()
    }

    /// Every pub/sub subscription that is followed: for a new connection.
    pub fn followed(&self) -> Vec<Subscription> {
        let state = self.state.borrow();
        let subscriptions = |names: &HashMap<ChannelName, _>, is_pattern| {
            names
                .keys()
                .filter(|name| is_pattern || !state.followed.is_fed(name.as_str()))
                .filter(|name| name.as_sharded().is_none())
                .map(|name| Subscription { name: name.clone(), is_pattern })
                .collect::<Vec<_>>()
        };
        let mut followed = subscriptions(&state.names.plain, false);
        followed.append(&mut subscriptions(&state.names.patterns, true));
        followed
    }

    /// Whether this subscription is followed.
    pub fn is_followed(&self, is_pattern: bool, name: &str) -> bool {
        let state = self.state.borrow();
        match is_pattern {
            true => state.names.patterns.contains_key(name),
            false => state.names.plain.contains_key(name) && !state.followed.is_fed(name),
        }
    }

    /// Whether any pattern is followed: only then a message may come more than once.
    pub fn follows_patterns(&self) -> bool {
        !self.state.borrow().names.patterns.is_empty()
    }

    // For sources of messages.

    /// The server has confirmed a subscription: from now on it sends what is published there. This ends the
    /// newest message: the confirmation came after its last copy.
    pub fn confirm(&self, is_pattern: bool, name: &str) {
        self.state.borrow_mut().confirm(is_pattern, name);
    }

    /// The source subscribes for its own use, and brings the hub no messages of it. Unlike [`Hub::confirm`],
    /// this may be called between two copies of a message.
    pub fn confirm_silent(&self, is_pattern: bool, name: &str) {
        self.state.borrow_mut().confirm_silent(is_pattern, name);
    }

    /// The source is not allowed to subscribe. A stream that waits for the channel is sent a gap, and the
    /// events of its other channels.
    pub fn deny(&self, is_pattern: bool, name: &str) {
        self.state.borrow_mut().deny(is_pattern, name);
    }

    /// The source has lost its connection.
    pub fn lose(&self) {
        let mut state = self.state.borrow_mut();
        state.lose();
        state.lose_fleet(OrderId::PLAIN);
        drop(state);
        self.flush();
    }

    /// All subscriptions that can be restored after a loss are confirmed again: sends one gap for all of them.
    pub fn restored(&self) {
        let mut state = self.state.borrow_mut();
        state.restored();
        state.restore_fleet(Instant::now());
    }

    /// Begins a message that was published to `channel`: gives it the next number. All copies of a
    /// message that matches several subscriptions have this number, so that a stream with several of them
    /// gets the message once. `payload` is `None` for one that is too large.
    pub fn begin_message(&self, channel: &[u8], payload: Option<&[u8]>) {
        self.state.borrow_mut().begin_message(OrderId::PLAIN, channel, payload);
    }

    /// No further copy of the newest message follows: the source has received something else since, or knows
    /// it in another way.
    pub fn end_message(&self) {
        self.state.borrow_mut().end_message();
    }

    /// Whether another copy of the newest message may follow: nothing else has come from the source since.
    pub fn is_message_open(&self) -> bool {
        self.state.borrow().numbers.is_message_open()
    }

    /// A copy of the message has come on this subscription. `decode` makes an event from it for each format
    /// in which it is read, or returns `None` if it cannot be decoded.
    pub fn publish(
        &self,
        is_pattern: bool,
        name: &str,
        received: Instant,
        decode: impl FnMut(Format) -> Option<Event>,
    ) {
        self.state.borrow_mut().publish(is_pattern, name, received, decode);
    }

    /// A copy of the message has come on this subscription, and was skipped: it is too large.
    pub fn skip(&self, is_pattern: bool, name: &str) {
        self.state.borrow_mut().skip(is_pattern, name);
    }

    // For sources of logs.

    /// The source reads this log, from the entry `id` on.
    pub fn begin_log(&self, log: (SourceKind, &str), id: EntryId) {
        let reads = self.state.borrow_mut().begin_log(log, id);
        self.source_requests.read_logs(reads);
    }

    /// An entry was added to the log. `decode` makes an event from it for each format in which the log is
    /// read, or returns `None` if it is too large.
    pub fn publish_entry(
        &self,
        log: (SourceKind, &str),
        id: EntryId,
        received: Instant,
        decode: impl FnMut(Format) -> Option<Event>,
    ) {
        self.state.borrow_mut().publish_entry(log, id, received, decode);
    }

    /// Entries of the log may be missing, up to `entry`. After a [`GapReason::Reset`] the log has new
    /// entries, after `entry`; after a [`GapReason::RolledBack`] it still has those up to `entry`.
    pub fn log_gap(&self, log: (SourceKind, &str), reason: GapReason, entry: EntryId) {
        self.state.borrow_mut().log_gap(log, reason, entry);
    }

    /// Takes the parts of logs that are to be read again, one for each stream; waits until there are any.
    /// Cancel safe.
    pub async fn log_reads(&self, source: SourceKind) -> impl Iterator<Item = LogRead> + use<> {
        let reads = self.source_requests.reads_of(source);
        reads.wait().await;
        reads.take().into_values()
    }

    /// Requests again what was not finished with [`Hub::finish_log_read`]: the responses are lost.
    pub fn repeat_log_reads(&self, source: SourceKind) {
        let unfinished = self.state.borrow().unfinished_log_reads();
        let unfinished = unfinished.into_iter().filter(|read| read.source == source);
        self.source_requests.read_logs(unfinished);
    }

    /// Whether a stream still waits for what this request is to read: its client may have left meanwhile.
    pub fn awaits_log_read(&self, key: LogReadKey) -> bool {
        self.state.borrow().awaits_log_read(key)
    }

    /// Takes what the source has read for the request with this key.
    pub fn finish_log_read(&self, key: LogReadKey, result: LogReadResult) {
        let next = self.state.borrow_mut().finish_log_read(key, result);
        self.source_requests.read_logs(next);
    }

    // For all.

    /// Sends the batches to the shards.
    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        state.observer.history_bytes(state.budget.held());
        state.flush();
        if state.senders.is_any_behind() {
            self.behind.notify_one();
        }
    }

    /// The current settings.
    pub fn settings(&self) -> HubSettings {
        self.state.borrow().settings.clone()
    }

    /// What the histories of all channels hold, in bytes.
    pub fn history_bytes(&self) -> usize {
        self.state.borrow().budget.held()
    }

    fn serve_shards(&self) {
        for request in self.shard_requests.take() {
            match request {
                ShardRequest::Leave { shard, topic } => {
                    self.state.borrow_mut().leave(shard, &topic, Instant::now());
                }
                ShardRequest::Join(join) => self.join(join),
                ShardRequest::Replay(replay) => {
                    let read = self.state.borrow_mut().replay(replay);
                    self.source_requests.read_logs(read);
                }
                ShardRequest::CancelReplay(stream) => {
                    let mut state = self.state.borrow_mut();
                    state.cancel_replay(stream);
                    state.cancel_locating(stream);
                    drop(state);
                    self.source_requests.cancel_read(&stream);
                }
            }
        }
    }

    fn join(&self, request: JoinRequest) {
        if let Some(first) = self.state.borrow_mut().join(request) {
            self.source_requests.put(first, SourceRequest::Follow);
        }
    }

    fn run_fleet(&self, now: Instant) {
        let topics = self.state.borrow_mut().run_fleets(now);
        for topic in topics {
            self.source_requests.put(topic, SourceRequest::Follow);
        }
    }

    fn close_lingering(&self, now: Instant) {
        for topic in self.state.borrow_mut().close_lingering(now) {
            self.source_requests.put(topic, SourceRequest::Leave);
        }
    }
}

#[cfg(test)]
impl Hub {
    pub(super) fn run_tag(&self) -> RunTag {
        self.state.borrow().run
    }

    /// The number up to which everything has come, with all its copies.
    pub(super) fn settled(&self) -> u64 {
        self.state.borrow().numbers.settled()
    }

    /// Channels that are open.
    pub(super) fn channels(&self) -> usize {
        self.state.borrow().channels.len()
    }

    /// Channels in the queue of the history budget.
    pub(super) fn budgeted_channels(&self) -> usize {
        self.state.borrow().budget.queued()
    }

    /// Parts of logs that no source has taken.
    pub(super) fn untaken_log_reads(&self) -> usize {
        self.source_requests.reads_of(SourceKind::Logs).take().len()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
