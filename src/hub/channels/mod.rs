//! Every channel that is followed, and the shards that are dealt its events.
//!
//! Lives on one thread, beside the source. An event is numbered, encoded once, and put into the
//! batch of each shard that has joined its channel; a batch leaves at [`Hub::flush`], when the
//! source has nothing more at hand. Subscribers are not known here, only shards.

mod backlogs;
mod channel;
mod confirm;
mod hub_state;
mod lingering;
mod logs;
mod name_index;
mod numbers;
mod replay;
mod retention;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::hub_state::{HubState, Joined};
pub use self::logs::{LogPast, PastCall, PastKey, PastWanted};
use super::gap::GapReason;
use super::inbox::shard_sender::{ShardSender, ShardSenders};
use super::position::event_id::RunTag;
use super::requests::coalescing_queue::Interest;
use super::requests::shard_request::{Caller, Calls, Joining, Wanted};
use super::shard::ShardLink;
use super::subscriber::queue_budget::QueueBudget;
use super::{HubSettings, MAX_SHARDS};
use crate::event::{ChannelName, EntryId, Event, Format, Ids, Subscription, Topic};
use crate::metrics::Metrics;

/// How often a shard that fell behind is looked at.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(50);

/// What the hub wants of its source, for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Somebody listens.
    Follow,
    /// Nobody has listened for the time of the linger.
    Leave,
}

/// The hub: a cheap handle, for the one thread that it lives on.
#[derive(Clone)]
pub struct Hub {
    state: Rc<RefCell<HubState>>,
    calls: Arc<Calls>,
    wishes: Rc<Interest<Subscription, Wish>>,
    log_wishes: Rc<Interest<ChannelName, Wish>>,
    past_calls: Rc<Interest<Caller, PastCall>>,
    // A shard has fallen behind.
    behind: Rc<Notify>,
    queues: Arc<QueueBudget>,
}

impl Hub {
    /// A hub, and one link for each of `shards` shards, to be taken to their threads.
    pub fn new(settings: HubSettings, shards: usize, metrics: Metrics) -> (Self, Vec<ShardLink>) {
        debug_assert!(shards <= MAX_SHARDS);
        let run = RunTag::draw();
        let calls = Arc::new(Calls::new());
        let queues = Arc::new(QueueBudget::new(settings.queue_memory, shards));
        let ports: Vec<ShardSender> = (0..shards).map(|_| ShardSender::new()).collect();
        let links = ports
            .iter()
            .enumerate()
            .map(|(shard, port)| {
                let ways = (port.inbox(), Arc::clone(&calls), Arc::clone(&queues));
                ShardLink::new(shard, run, ways)
            })
            .collect();
        let state = HubState::new(run, ShardSenders::new(ports), settings, metrics);
        let hub = Self {
            state: Rc::new(RefCell::new(state)),
            calls,
            wishes: Rc::new(Interest::new()),
            log_wishes: Rc::new(Interest::new()),
            past_calls: Rc::new(Interest::new()),
            behind: Rc::default(),
            queues,
        };
        (hub, links)
    }

    /// Serves the shards: lets them join and leave channels, and leaves those that nobody has
    /// listened to for the time of their linger. Owned by the gateway; ends when it is dropped.
    pub async fn run(&self) {
        loop {
            let linger = self.state.borrow().next_linger();
            tokio::select! {
                () = self.calls.wait() => self.serve_calls(),
                () = sleep_until(linger) => self.leave_lingering(Instant::now()),
                // What waits for a shard that fell behind is handed over also when nothing more is
                // published. If another arm wins, the flush below looks again.
                () = async {
                    self.behind.notified().await;
                    tokio::time::sleep(CATCH_UP_INTERVAL).await;
                } => {}
            }
            self.flush();
        }
    }

    /// Keeps to other bounds from now on; what is over those for all channels goes with the next event.
    pub fn change(&self, settings: HubSettings) {
        self.queues.hold(settings.queue_memory);
        self.state.borrow_mut().change(settings);
        // Channels may linger for another time.
        self.behind.notify_one();
    }

    /// What changed in what the source is to follow; waits until something has. Cancel safe.
    pub async fn wishes(&self) -> impl Iterator<Item = (Subscription, Wish)> + use<> {
        self.wishes.wait().await;
        self.wishes.take().into_iter()
    }

    /// Everything that the source is to follow: for a new connection.
    pub fn followed(&self) -> Vec<Subscription> {
        let state = self.state.borrow();
        let subscriptions = |names: &HashMap<ChannelName, _>, is_pattern| {
            names
                .keys()
                .map(|name| Subscription { name: name.clone(), is_pattern })
                .collect::<Vec<_>>()
        };
        let mut followed = subscriptions(&state.names.plain, false);
        followed.append(&mut subscriptions(&state.names.patterns, true));
        followed
    }

    /// What changed in which logs the source is to read; waits until something has. Cancel safe.
    ///
    /// Of a log that is to be followed, the source tells the beginning ([`Hub::begin_log`]), also
    /// where it reads it already.
    pub async fn log_wishes(&self) -> impl Iterator<Item = (ChannelName, Wish)> + use<> {
        self.log_wishes.wait().await;
        self.log_wishes.take().into_iter()
    }

    /// Pieces of logs that the source is to read again; waits until there are any. Cancel safe.
    pub async fn past_calls(&self) -> impl Iterator<Item = PastCall> + use<> {
        self.past_calls.wait().await;
        self.past_calls.take().into_values()
    }

    /// Everything that was asked and is not answered yet is asked again: its answers are lost.
    pub fn ask_for_pasts_again(&self) {
        let unanswered = self.state.borrow().unanswered();
        self.ask_for_pasts(unanswered);
    }

    /// The source reads this log from the entry `id` on.
    pub fn begin_log(&self, name: &str, id: EntryId) {
        let calls = self.state.borrow_mut().begin_log(name, id);
        self.ask_for_pasts(calls);
    }

    /// An entry was added to the log: `decode` makes an event of it for each format in which the log
    /// is read, or `None` where it is too large.
    pub fn entry(
        &self,
        name: &str,
        id: EntryId,
        received: Instant,
        decode: impl FnMut(Format) -> Option<Event>,
    ) {
        self.state.borrow_mut().entry(name, id, received, decode);
    }

    /// Entries of the log may be missing, up to `entry`. After a [`GapReason::Reset`] its entries
    /// are new ones, and come after `entry`; after a [`GapReason::RolledBack`] it has those up to
    /// `entry` still.
    pub fn log_gap(&self, name: &str, reason: GapReason, entry: EntryId) {
        self.state.borrow_mut().log_gap(name, reason, entry);
    }

    /// What the source has read again, for the call with this key.
    pub fn past(&self, key: PastKey, past: LogPast) {
        let call = self.state.borrow_mut().past(key, past);
        self.ask_for_pasts(call);
    }

    /// Begins a message of the source, published to `channel`: gives it the next number. A message that
    /// is heard through several subscriptions has one number, so that a stream that asked for both
    /// gets it once.
    pub fn begin_message(&self, channel: &[u8]) {
        self.state.borrow_mut().begin_message(channel);
    }

    /// The source has heard something else since the newest message, or knows otherwise that no
    /// further copy of it follows.
    pub fn end_message(&self) {
        self.state.borrow_mut().numbers.end_message();
    }

    /// The message is heard on this subscription: `decode` makes an event of it for each format in
    /// which it is read, or `None` where it cannot be.
    pub fn publish(
        &self,
        is_pattern: bool,
        name: &str,
        received: Instant,
        decode: impl FnMut(Format) -> Option<Event>,
    ) {
        self.state.borrow_mut().publish(is_pattern, name, received, decode);
    }

    /// The message on this subscription was skipped: it is too large.
    pub fn skip(&self, is_pattern: bool, name: &str) {
        let mut state = self.state.borrow_mut();
        let channels = state.names.readings(is_pattern, name).to_vec();
        state.gap(GapReason::TooLarge, &channels);
    }

    /// Whether anybody follows this subscription.
    pub fn is_followed(&self, is_pattern: bool, name: &str) -> bool {
        !self.state.borrow().names.readings(is_pattern, name).is_empty()
    }

    /// Whether any pattern is followed: only then a message may be heard more than once.
    pub fn follows_patterns(&self) -> bool {
        !self.state.borrow().names.patterns.is_empty()
    }

    /// The source listens to this subscription from now on.
    pub fn confirm(&self, is_pattern: bool, name: &str) {
        self.state.borrow_mut().confirm(is_pattern, name);
    }

    /// The source may not listen to this subscription: whoever waits for it is told that something
    /// may be missing there, and gets the rest.
    pub fn deny(&self, is_pattern: bool, name: &str) {
        self.state.borrow_mut().deny(is_pattern, name);
    }

    /// The source has lost its connection.
    pub fn lose(&self) {
        self.state.borrow_mut().lose();
        self.flush();
    }

    /// Everything that can be restored after a loss has been: tells the gap once, for all of it.
    pub fn restored(&self) {
        let mut state = self.state.borrow_mut();
        let restored = std::mem::take(&mut state.restored);
        state.gap(GapReason::RedisAway, &restored);
    }

    /// What the histories of all channels hold, in bytes.
    pub fn history_bytes(&self) -> usize {
        self.state.borrow().memory.held()
    }

    /// The newest number.
    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.state.borrow().numbers.newest()
    }

    /// Up to this number everything was heard with all its copies.
    #[cfg(test)]
    pub(super) fn settled(&self) -> u64 {
        self.state.borrow().numbers.settled()
    }

    /// Channels in the line of those that keep history.
    #[cfg(test)]
    pub(super) fn line(&self) -> usize {
        self.state.borrow().memory.line()
    }

    /// Pieces of logs that the source has not taken up.
    #[cfg(test)]
    pub(super) fn untaken_past_calls(&self) -> usize {
        self.past_calls.take().len()
    }

    /// Hands the batches to the shards.
    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        state.metrics.history_bytes(state.memory.held());
        state.flush();
        if state.ports.is_any_behind() {
            self.behind.notify_one();
        }
    }

    fn ask_for_pasts(&self, calls: impl IntoIterator<Item = PastCall>) {
        for call in calls {
            self.past_calls.wish(call.key().caller(), call);
        }
    }

    /// Joins come first: what is asked of the past of a channel is asked by one who has joined it.
    fn serve_calls(&self) {
        let (joins, replays) = self.calls.take();
        // And before them what is left: it may be the room that a join needs.
        let (left, joined): (Vec<_>, Vec<_>) =
            joins.into_iter().partition(|(_, wanted)| *wanted == Wanted::Left);
        for ((shard, topic), wanted) in left.into_iter().chain(joined) {
            self.want(shard, topic, wanted);
        }
        for (caller, asked) in replays {
            match asked {
                Some(asked) => {
                    let call = self.state.borrow_mut().look_into(caller, asked);
                    self.ask_for_pasts(call);
                }
                None => {
                    self.state.borrow_mut().withdraw(caller);
                    self.past_calls.withdraw(&caller);
                }
            }
        }
    }

    fn want(&self, shard: usize, topic: Topic, wanted: Wanted) {
        match wanted {
            Wanted::Joined(joining) => self.join(shard, topic, joining),
            Wanted::Left => self.state.borrow_mut().leave(shard, &topic, Instant::now()),
        }
    }

    fn join(&self, shard: usize, topic: Topic, joining: Joining) {
        let mut state = self.state.borrow_mut();
        if let Some(left) = state.make_room(&topic) {
            self.wish(left, Wish::Leave);
        }
        if state.join(shard, topic.clone(), joining) == Some(Joined::First) {
            self.wish(topic, Wish::Follow);
        }
    }

    fn leave_lingering(&self, now: Instant) {
        for topic in self.state.borrow_mut().leave_lingering(now) {
            self.wish(topic, Wish::Leave);
        }
    }

    fn wish(&self, topic: Topic, wish: Wish) {
        match topic.ids {
            Ids::Entries => self.log_wishes.wish(topic.subscription.name, wish),
            Ids::Ours | Ids::Publisher => self.wishes.wish(topic.subscription, wish),
        }
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
