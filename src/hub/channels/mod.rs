//! Every channel that is followed, and the shards that are dealt its events.
//!
//! Lives on one thread, beside the source. An event is numbered, encoded once, and put into the
//! batch of each shard that has joined its channel; a batch leaves at [`Hub::flush`], when the
//! source has nothing more at hand. Subscribers are not known here, only shards.

mod state;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::state::{Joined, State};
use super::calls::{Calls, Joining, Wanted};
use super::gap::GapReason;
use super::interest::Interest;
use super::port::{Port, Ports};
use super::position::Run;
use super::queue_memory::QueueMemory;
use super::shard::ShardLink;
use super::{HubSettings, MAX_SHARDS};
use crate::event::{ChannelName, Event, Format, Subscription, Topic};
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
    state: Rc<RefCell<State>>,
    calls: Arc<Calls>,
    wishes: Rc<Interest<Subscription, Wish>>,
    // A shard has fallen behind.
    behind: Rc<Notify>,
    queues: Arc<QueueMemory>,
}

impl Hub {
    /// A hub, and one link for each of `shards` shards, to be taken to their threads.
    pub fn new(settings: HubSettings, shards: usize, metrics: Metrics) -> (Self, Vec<ShardLink>) {
        debug_assert!(shards <= MAX_SHARDS);
        let run = Run::draw();
        let calls = Arc::new(Calls::new());
        let queues = Arc::new(QueueMemory::new(settings.queue_memory, shards));
        let ports: Vec<Port> = (0..shards).map(|_| Port::new()).collect();
        let links = ports
            .iter()
            .enumerate()
            .map(|(shard, port)| {
                let ways = (port.inbox(), Arc::clone(&calls), Arc::clone(&queues));
                ShardLink::new(shard, run, ways)
            })
            .collect();
        let state = State::new(run, Ports::new(ports), settings, metrics);
        let hub = Self {
            state: Rc::new(RefCell::new(state)),
            calls,
            wishes: Rc::new(Interest::new()),
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

    /// Keeps to other bounds from now on; what is over them goes with the next event.
    pub fn change(&self, settings: HubSettings) {
        self.queues.hold(settings.queue_memory);
        self.state.borrow_mut().change(settings);
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

    /// Begins a message of the source: gives it the next number. A message that is heard through
    /// several subscriptions has one number, so that a stream that asked for both gets it once.
    pub fn begin_message(&self) {
        self.state.borrow_mut().number += 1;
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

    /// Channels in the line of those that keep history.
    #[cfg(test)]
    pub(super) fn line(&self) -> usize {
        self.state.borrow().memory.line()
    }

    /// Hands the batches to the shards.
    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        let State { ports, number, metrics, memory, .. } = &mut *state;
        metrics.history_bytes(memory.held());
        ports.flush(*number, metrics);
        if ports.is_any_behind() {
            self.behind.notify_one();
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
        for ((shard, member), asked) in replays {
            self.state.borrow_mut().replay(shard, member, &asked);
        }
    }

    fn want(&self, shard: usize, topic: Topic, wanted: Wanted) {
        match wanted {
            Wanted::Joined(joining) => self.join(shard, topic, joining),
            Wanted::Left => self.state.borrow_mut().leave(shard, &topic, Instant::now()),
        }
    }

    fn join(&self, shard: usize, topic: Topic, joining: Joining) {
        let subscription = topic.subscription.clone();
        let mut state = self.state.borrow_mut();
        if let Some(left) = state.make_room(&topic) {
            self.wishes.wish(left, Wish::Leave);
        }
        if state.join(shard, topic, joining) == Some(Joined::First) {
            self.wishes.wish(subscription, Wish::Follow);
        }
    }

    fn leave_lingering(&self, now: Instant) {
        for subscription in self.state.borrow_mut().leave_lingering(now) {
            self.wishes.wish(subscription, Wish::Leave);
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
