//! The subscriptions of the bus, and the distribution of messages.
//!
//! Owns the subscribers and their subscriptions, on one thread and without locks. Knows neither
//! sockets nor commands: a connection is an [`Outbox`] here, a part of this process a
//! [`SharedOutlet`].

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;
use ssegate_resp::Payload;
use tokio::time::Instant;

use super::memory::BusMemory;
use super::message::EncodedMessage;
use super::outbox::Outbox;
use super::outlet::SharedOutlet;
use super::settings::BusSettings;
use super::stats::BusStats;
use super::streams::StreamStore;
use super::streams::waiting::WaitingReads;
use super::subscriptions::{SubscriberId, SubscriptionTable};
use super::warning::{BusWarning, WarningLimit};

/// The bus. Clones are handles to the same bus.
#[derive(Clone)]
pub struct Broker {
    bus: Rc<RefCell<BusState>>,
    settings: Rc<BusSettings>,
    stats: Arc<BusStats>,
    memory: BusMemory,
    warnings: Rc<WarningLimit>,
    streams: Rc<RefCell<StreamStore>>,
    waiting: Rc<RefCell<WaitingReads>>,
}

/// All connections together have reached [`max_subscriptions`](BusSettings::max_subscriptions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManySubscriptions;

/// The outlets that receive a message, each with the pattern that matched.
type MatchedOutlets = Vec<(SharedOutlet, Option<Rc<[u8]>>)>;

#[derive(Default)]
struct BusState {
    subscribers: Slab<BusSubscriber>,
    channels: SubscriptionTable,
    patterns: SubscriptionTable,
    /// Subscriptions of connections, which are limited.
    subscriptions: usize,
    /// The outlets that receive the current message; kept to reuse its memory.
    matched: MatchedOutlets,
    /// Whether an outlet received a message since the last flush.
    has_unflushed: bool,
}

struct BusSubscriber {
    delivery: Delivery,
    channels: BTreeSet<Rc<[u8]>>,
    patterns: BTreeSet<Rc<[u8]>>,
}

/// Where the messages of a subscriber go.
enum Delivery {
    Connection(Rc<Outbox>),
    Outlet(SharedOutlet),
}

impl Broker {
    /// Creates a bus without subscribers.
    pub fn new(settings: BusSettings) -> Self {
        let memory = BusMemory::default();
        Self {
            bus: Rc::default(),
            streams: Rc::new(RefCell::new(StreamStore::new(settings.max_stream_bytes))),
            waiting: Rc::default(),
            settings: Rc::new(settings),
            stats: Arc::new(BusStats::new(memory.clone())),
            memory,
            warnings: Rc::default(),
        }
    }

    /// The limits of the bus.
    pub fn settings(&self) -> &BusSettings {
        &self.settings
    }

    /// The counters of the bus, which any thread may read.
    pub fn stats(&self) -> Arc<BusStats> {
        Arc::clone(&self.stats)
    }

    /// Delivers a message to all subscribers. Returns the number of deliveries: one for each
    /// matching subscription, as in Redis. Outlets have received the message when this returns.
    pub fn publish(&self, channel: &[u8], payload: &Payload) -> usize {
        if matches!(payload, Payload::TooLarge(_)) {
            self.stats.message_was_oversized();
        }
        let (mut matched, delivered) =
            self.bus.borrow_mut().distribute(channel, payload, &self.memory);
        self.enforce_memory();
        for (outlet, pattern) in matched.drain(..) {
            match outlet.try_borrow_mut() {
                Ok(mut outlet) => outlet.message(pattern.as_deref(), channel, payload),
                Err(_) => tracing::error!(
                    "a receiver published to itself while it was receiving a message: it misses this one"
                ),
            }
        }
        self.bus.borrow_mut().matched = matched;
        delivered
    }

    /// Flushes the outlets that received messages: no more are ready.
    pub fn flush(&self) {
        if !mem::take(&mut self.bus.borrow_mut().has_unflushed) {
            return;
        }
        let outlets: Vec<_> = self.bus.borrow().outlets().collect();
        for outlet in outlets {
            if let Ok(mut outlet) = outlet.try_borrow_mut() {
                outlet.flush();
            }
        }
    }

    /// The streams; see `stream_access`.
    pub(super) fn stream_store(&self) -> &RefCell<StreamStore> {
        &self.streams
    }

    /// The connections that wait for entries.
    pub(super) fn waiting_reads(&self) -> &RefCell<WaitingReads> {
        &self.waiting
    }

    pub(super) fn counters(&self) -> &BusStats {
        &self.stats
    }

    /// Creates the output queue of a new connection.
    pub(super) fn outbox(&self) -> Rc<Outbox> {
        Rc::new(Outbox::new(self.settings.max_queued_bytes, &self.memory))
    }

    /// Calls `log` with the number of suppressed warnings, unless a warning of this kind was logged
    /// recently.
    pub(super) fn warn(&self, kind: BusWarning, log: impl FnOnce(u64)) {
        if let Some(held_back) = self.warnings.pass(kind, Instant::now()) {
            log(held_back);
        }
    }

    /// Closes connections until all of them together are within the memory limit.
    pub(super) fn enforce_memory(&self) {
        while self.memory.used() > self.settings.max_memory {
            let Some(outbox) = self.bus.borrow().longest_idle() else { return };
            outbox.close_for_memory();
            self.stats.session_closed_for_memory();
        }
    }

    /// Adds a connection, without subscriptions.
    pub(super) fn add_connection(&self, outbox: Rc<Outbox>) -> SubscriberId {
        self.add_subscriber(Delivery::Connection(outbox))
    }

    /// Adds an outlet, without subscriptions.
    pub(super) fn add_outlet(&self, outlet: SharedOutlet) -> SubscriberId {
        self.add_subscriber(Delivery::Outlet(outlet))
    }

    fn add_subscriber(&self, delivery: Delivery) -> SubscriberId {
        let subscriber =
            BusSubscriber { delivery, channels: BTreeSet::new(), patterns: BTreeSet::new() };
        self.bus.borrow_mut().subscribers.insert(subscriber)
    }

    /// Removes a subscriber and all its subscriptions.
    pub(super) fn detach(&self, id: SubscriberId) {
        for is_pattern in [false, true] {
            for name in self.names_of(id, is_pattern) {
                self.unsubscribe(id, &name, is_pattern);
            }
        }
        // Dropped after the borrow, because an outlet may drop a handle of its own.
        let subscriber = self.bus.borrow_mut().subscribers.try_remove(id);
        drop(subscriber);
    }

    /// Subscribes a connection, within the limit.
    pub(super) fn subscribe(
        &self,
        id: SubscriberId,
        name: &[u8],
        is_pattern: bool,
    ) -> Result<(), TooManySubscriptions> {
        if self.bus.borrow().subscriptions >= self.settings.max_subscriptions {
            return Err(TooManySubscriptions);
        }
        self.subscribe_unlimited(id, name, is_pattern);
        Ok(())
    }

    /// Subscribes without a limit. No effect if it is subscribed already.
    pub(super) fn subscribe_unlimited(&self, id: SubscriberId, name: &[u8], is_pattern: bool) {
        let bus = &mut *self.bus.borrow_mut();
        let Some(subscriber) = bus.subscribers.get_mut(id) else { return };
        let table = if is_pattern { &mut bus.patterns } else { &mut bus.channels };
        if let Some(name) = table.add(name, id) {
            subscriber.record_name(name.len().cast_signed());
            subscriber.names_mut(is_pattern).insert(name);
            bus.subscriptions += subscriber.weight();
        }
    }

    /// Unsubscribes. No effect if it is not subscribed.
    pub(super) fn unsubscribe(&self, id: SubscriberId, name: &[u8], is_pattern: bool) {
        let bus = &mut *self.bus.borrow_mut();
        let Some(subscriber) = bus.subscribers.get_mut(id) else { return };
        if subscriber.names_mut(is_pattern).remove(name) {
            let table = if is_pattern { &mut bus.patterns } else { &mut bus.channels };
            table.remove(name, id);
            subscriber.record_name(-name.len().cast_signed());
            bus.subscriptions -= subscriber.weight();
        }
    }

    /// The channels or patterns of a subscriber.
    pub(super) fn names_of(&self, id: SubscriberId, is_pattern: bool) -> Vec<Rc<[u8]>> {
        let bus = self.bus.borrow();
        let names = bus.subscribers.get(id).map(|subscriber| subscriber.names(is_pattern));
        names.into_iter().flatten().cloned().collect()
    }

    /// The number of channels and patterns of a subscriber.
    pub(super) fn subscriptions_of(&self, id: SubscriberId) -> usize {
        let bus = self.bus.borrow();
        bus.subscribers.get(id).map_or(0, |one| one.channels.len() + one.patterns.len())
    }

    /// The channels with subscribers, sorted: all, or those that match `pattern`.
    pub(super) fn channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let bus = self.bus.borrow();
        let names = bus.channels.iter().map(|(name, _)| name);
        let matching =
            names.filter(|name| pattern.is_none_or(|pattern| ssegate_glob::matches(pattern, name)));
        let mut names: Vec<_> = matching.map(|name| Bytes::copy_from_slice(name)).collect();
        names.sort_unstable();
        names
    }

    /// The number of subscribers of one channel, not counting patterns.
    pub(super) fn subscribers(&self, channel: &[u8]) -> usize {
        self.bus.borrow().channels.subscribers(channel).len()
    }

    /// The number of patterns with subscribers.
    pub(super) fn patterns(&self) -> usize {
        self.bus.borrow().patterns.len()
    }
}

impl BusState {
    /// Queues a message for connections, and returns the outlets that receive it.
    fn distribute(
        &mut self,
        channel: &[u8],
        payload: &Payload,
        memory: &BusMemory,
    ) -> (MatchedOutlets, usize) {
        let mut matched = mem::take(&mut self.matched);
        let mut delivered = 0;
        let mut deliver = |ids: &[SubscriberId], pattern: Option<&Rc<[u8]>>| {
            let mut message = EncodedMessage::new(channel, pattern, payload, memory);
            for subscriber in ids.iter().filter_map(|id| self.subscribers.get(*id)) {
                match &subscriber.delivery {
                    Delivery::Connection(outbox) => delivered += usize::from(message.send(outbox)),
                    Delivery::Outlet(outlet) => {
                        matched.push((Rc::clone(outlet), pattern.cloned()));
                        delivered += 1;
                    }
                }
            }
        };
        deliver(self.channels.subscribers(channel), None);
        for (pattern, ids) in self.patterns.iter() {
            if ssegate_glob::matches(pattern, channel) {
                deliver(ids, Some(pattern));
            }
        }
        self.has_unflushed |= !matched.is_empty();
        (matched, delivered)
    }

    /// Among the connections that hold much memory, the one that has been idle for longest.
    fn longest_idle(&self) -> Option<Rc<Outbox>> {
        let outboxes =
            self.subscribers.iter().filter_map(|(_, subscriber)| match &subscriber.delivery {
                Delivery::Connection(outbox) => Some(outbox),
                Delivery::Outlet(_) => None,
            });
        let candidates =
            outboxes.filter(|outbox| outbox.held_bytes() >= BusSettings::SMALL && !outbox.is_own());
        candidates.min_by_key(|outbox| outbox.last_activity()).map(Rc::clone)
    }

    fn outlets(&self) -> impl Iterator<Item = SharedOutlet> {
        self.subscribers.iter().filter_map(|(_, subscriber)| match &subscriber.delivery {
            Delivery::Connection(_) => None,
            Delivery::Outlet(outlet) => Some(Rc::clone(outlet)),
        })
    }
}

impl BusSubscriber {
    fn names(&self, is_pattern: bool) -> &BTreeSet<Rc<[u8]>> {
        if is_pattern { &self.patterns } else { &self.channels }
    }

    fn names_mut(&mut self, is_pattern: bool) -> &mut BTreeSet<Rc<[u8]>> {
        if is_pattern { &mut self.patterns } else { &mut self.channels }
    }

    /// Records a name that was added, or removed if its length is negative.
    fn record_name(&self, length: isize) {
        if let Delivery::Connection(outbox) = &self.delivery {
            outbox.record_name(length);
        }
    }

    /// How much one of its subscriptions counts towards the limit.
    fn weight(&self) -> usize {
        match self.delivery {
            Delivery::Connection(_) => 1,
            Delivery::Outlet(_) => 0,
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("settings", &self.settings).finish_non_exhaustive()
    }
}
