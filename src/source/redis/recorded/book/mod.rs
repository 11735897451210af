//! What is recorded: the channels, the marks, and the other gateways.
//!
//! Decides; the connections that it needs belong to [`listener`](super::listener) and [`writer`](super::writer).

mod catching_up;
mod closing;
mod held;
mod marks;
mod placed;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use ssegate_hub::{ChannelName, EntryId, Hub, Subscription};
use ssegate_record::{AppendAnswer, AppendKind, AppendRequest, LogItem, Timeline};
use ssegate_resp::Payload;
use tokio::time::Instant;

use self::closing::RecordClosing;
use super::awaited::AwaitedReads;
use super::channel::{RecordedChannel, RecordedPayload, entry_id};
use super::members::RecordMembers;
use super::memory::{MemoryShare, RecordMemory};
use super::order::RecordOrder;
use super::pace::RecordTurn;
use super::past::PastRead;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::route::OWN_NAMES;

/// Items in one request, at most.
const MAX_ITEMS: usize = 256;
/// Other gateways respond to the first mark of a new one; until then it is not known whether there are any.
const OTHERS_RESPOND: Duration = Duration::from_millis(500);
/// So far marks may be ahead of the clock of Redis, which may have gone back, in milliseconds.
pub(super) const MAX_AHEAD: u64 = 24 * 60 * 60 * 1000;

/// Everything that is recorded.
#[derive(Debug)]
pub(in super::super) struct RecordBook {
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    pub(super) order: RecordOrder,
    memory: MemoryShare,
    pub(super) channels: HashMap<ChannelName, RecordedChannel>,
    /// Patterns that are followed from the start; the first that matches a channel brings it.
    pub(super) patterns: Vec<ChannelName>,
    // The mark since which each pattern brings everything on this connection.
    brought_since: HashMap<ChannelName, Option<u64>>,
    timeline: Timeline,
    // The newest mark that ever came, so that the next one is above it, also where Redis has lost it and its clock is behind.
    newest_ever: u64,
    members: RecordMembers,
    // When the first mark came on this connection.
    first_mark: Option<Instant>,
    // The clock of Redis as of the newest reply to a mark, in milliseconds since 1970; the clock here before that.
    redis_time: Option<u64>,
    log: LogLimit,
    // Whose logs are to be completed at the next mark, by whoever can.
    asked: BTreeSet<ChannelName>,
    mark_due: Option<Instant>,
    // Channels with something to append, and those that do not keep what comes yet.
    active: HashSet<ChannelName>,
    unopened: HashSet<ChannelName>,
    // What waits to be appended, in bytes, and what waits until older messages were read from logs.
    waiting_bytes: usize,
    held_back_bytes: usize,
    reads: AwaitedReads<PastRead>,
    // The gateway exits soon.
    closing: Option<RecordClosing>,
}

impl RecordBook {
    pub(super) fn new(
        hub: Hub,
        metrics: Metrics,
        (order, memory): (RecordOrder, RecordMemory),
    ) -> Self {
        let members = RecordMembers::new(hub.run_text(), marks::gone_after(&order));
        Self {
            hub,
            metrics,
            order,
            memory: MemoryShare::new(memory),
            channels: HashMap::new(),
            patterns: Vec::new(),
            brought_since: HashMap::new(),
            timeline: Timeline::default(),
            newest_ever: 0,
            members,
            first_mark: None,
            redis_time: None,
            log: LogLimit::new(),
            asked: BTreeSet::new(),
            mark_due: None,
            active: HashSet::new(),
            unopened: HashSet::new(),
            waiting_bytes: 0,
            held_back_bytes: 0,
            reads: AwaitedReads::default(),
            closing: None,
        }
    }

    /// Follows these patterns, on the next connection. A channel that is followed has a subscription of its own unless
    /// one of them brings it.
    pub(super) fn change_patterns(&mut self, patterns: Vec<ChannelName>) {
        self.patterns = patterns;
        let names: Vec<ChannelName> = self.channels.keys().cloned().collect();
        for name in names {
            let is_fed = self.bringing(name.as_str()).is_some();
            if let Some(channel) = self.channels.get_mut(&name) {
                channel.is_fed = is_fed;
            }
        }
    }

    /// Whether anything is to be recorded.
    pub(in super::super) fn is_needed(&self) -> bool {
        !self.patterns.is_empty() || !self.channels.is_empty()
    }

    /// What a new connection subscribes to.
    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        let subscription =
            |name: &ChannelName, is_pattern| Subscription { name: name.clone(), is_pattern };
        let followed = self.channels.iter().filter(|(_, c)| c.is_followed && !c.is_fed);
        let patterns = self.patterns.iter().map(|name| subscription(name, true));
        patterns.chain(followed.map(|(name, _)| subscription(name, false))).collect()
    }

    /// The listening connection is lost.
    pub(in super::super) fn lose(&mut self) {
        self.timeline = Timeline::default();
        self.first_mark = None;
        self.brought_since.clear();
        self.unopened.clear();
        self.mark_due = None;
        self.reads.prune(|read| !read.is_catch_up());
        self.channels.values_mut().for_each(RecordedChannel::lose);
        self.held_back_bytes = 0;
        self.note_held();
    }

    /// The hub wants a channel. Returns whether it needs a subscription of its own.
    pub(in super::super) fn follow(&mut self, name: &ChannelName) -> bool {
        let is_fed = self.bringing(name.as_str()).is_some();
        let channel = self.channels.entry(name.clone()).or_default();
        let was_subscribed = channel.is_followed;
        channel.is_followed = true;
        channel.is_fed = is_fed;
        if is_fed {
            self.begin_fed(name);
        }
        self.begin(name);
        !is_fed && !was_subscribed
    }

    /// The hub needs a channel no longer. Returns whether its subscription is to be left.
    pub(in super::super) fn leave(&mut self, name: &ChannelName) -> bool {
        drop(self.take_catch_up(name));
        let Some(channel) = self.channels.get_mut(name) else { return false };
        (channel.is_followed, channel.newest) = (false, None);
        self.unopened.remove(name);
        if channel.is_fed {
            return false;
        }
        channel.lose();
        self.forget_idle(name);
        true
    }

    /// The server has confirmed a subscription.
    pub(in super::super) fn confirm(
        &mut self,
        Subscription { name, is_pattern }: &Subscription,
        now: Instant,
    ) {
        if *is_pattern {
            self.brought_since.insert(name.clone(), None);
        } else if let Some(channel) = self.channels.get_mut(name) {
            channel.is_confirmed = true;
            self.unopened.insert(name.clone());
            self.ask(name, now);
        }
        self.request_mark(now);
    }

    /// Takes a message.
    pub(in super::super) fn receive(
        &mut self,
        pattern: Option<&str>,
        name: &str,
        payload: &Payload,
        now: Instant,
    ) {
        if !self.order.is_sharded() && is_own(name) {
            return;
        }
        // Of several copies that of the first pattern counts.
        if pattern != self.bringing(name).map(ChannelName::as_str) {
            return;
        }
        let Some(mark) = self.timeline.newest() else { return };
        if pattern.is_some() && !self.channels.contains_key(name) {
            let Ok(name) = ChannelName::new(name) else { return };
            self.channels
                .insert(name.clone(), RecordedChannel { is_fed: true, ..Default::default() });
            self.begin_fed(&name);
        }
        let Some((name, channel)) = self.channels.get_key_value(name) else { return };
        let (name, is_open) = (name.clone(), channel.recorder.is_open());
        let message = RecordedPayload::copy(payload);
        let held = message.held();
        let Some(channel) = self.channels.get_mut(&name) else { return };
        let Some(id) = channel.recorder.receive(mark, message.clone()) else { return };
        // Lets the others learn soon how far this gateway has come.
        self.mark_due = self.mark_due.map(|due| due.min(now + marks::MARK_INTERVAL));
        if is_open {
            channel.pace.begin(now);
            channel.held += held;
            self.waiting_bytes += held;
            self.active.insert(name.clone());
        } else {
            // Others of the channel were dropped, and no mark has come since.
            self.metrics.recorded_dropped(1);
        }
        self.deliver(&name, entry_id(id), message, now);
        self.keep_within_memory(now);
    }

    /// Requests that are due now.
    pub(super) fn requests(
        &mut self,
        now: Instant,
    ) -> Vec<(ChannelName, AppendRequest<RecordedPayload>)> {
        let is_settled = self.first_mark.is_some_and(|first| now >= first + OTHERS_RESPOND);
        let has_others = self.members.has_others() || !is_settled;
        let mut requests = Vec::new();
        for name in &self.active {
            let Some(channel) = self.channels.get_mut(name) else { continue };
            let is_closing = self.closing.is_some();
            let since = channel.recorder.since();
            let turn = RecordTurn {
                is_first: is_closing || self.members.is_first(name.as_str()),
                has_others,
                may_have_older: since.is_none_or(|since| self.members.may_have_before(since.mark)),
            };
            let kind = match channel.pace.due(turn, now) {
                // No log begins with a gap because a gateway exits.
                Some(_) if is_closing && !channel.recorder.has_messages() => {
                    Some(AppendKind::Items)
                }
                kind => kind,
            };
            let request = kind.and_then(|kind| channel.recorder.request(kind, MAX_ITEMS));
            requests.extend(request.map(|request| (name.clone(), request)));
        }
        requests
    }

    /// Whether anything waits to be appended.
    pub(super) fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// The log of a channel was asked.
    pub(super) fn answered(&mut self, name: &ChannelName, answer: AppendAnswer, now: Instant) {
        // An id of the far future is no mark: somebody else has added to the log.
        if self.may_be_mark(answer.top.mark) && self.timeline.note_top(answer.top.mark) {
            self.request_mark(now);
        }
        self.change(name, |channel| {
            let (mut taken, mut held, top) = (0, 0, answer.top);
            channel.recorder.answer(answer, |item| {
                taken += 1;
                if let LogItem::Message(message) = item {
                    held += message.held();
                }
            });
            channel.held = channel.held.saturating_sub(held);
            let state = (answer.is_missing, taken, channel.recorder.len());
            channel.pace.answered(state, top, now);
        });
    }

    /// It is not known whether a request was carried out, or it was refused.
    pub(super) fn failed(&mut self, name: &ChannelName, is_refused: bool, now: Instant) {
        self.change(name, |channel| {
            channel.recorder.forget_request();
            if is_refused {
                channel.pace.failed(now);
            }
        });
    }

    /// Whether a mark has come on this connection.
    pub(in super::super) fn has_mark(&self) -> bool {
        self.first_mark.is_some()
    }

    /// Whether everything up to this id has come on this connection, if it is one of this order of marks.
    pub(in super::super) fn has_come(&self, id: EntryId) -> bool {
        self.timeline.newest().is_some_and(|newest| id.milliseconds <= newest)
    }

    /// Hands a message to the hub, or holds it until those before it were read.
    pub(super) fn deliver(
        &mut self,
        name: &ChannelName,
        id: EntryId,
        message: RecordedPayload,
        received: Instant,
    ) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if let Some(catch_up) = &mut channel.catch_up {
            self.held_back_bytes += message.held();
            catch_up.hold(id, message);
            self.keep_within_memory(received);
        } else if channel.newest.is_some() {
            channel.newest = Some(id);
            self.publish(name, id, &message, received);
        }
    }

    /// Hands a message to the hub.
    pub(super) fn publish(
        &self,
        name: &ChannelName,
        id: EntryId,
        message: &RecordedPayload,
        received: Instant,
    ) {
        let metrics = &self.metrics;
        let log = (self.order.source(), name.as_str());
        self.hub.publish_entry(log, id, received, |format| match message {
            RecordedPayload::Whole(payload) => {
                let decoded = format.decode(payload);
                if decoded.is_malformed {
                    metrics.event_malformed();
                }
                Some(decoded.event)
            }
            RecordedPayload::TooLarge => {
                metrics.event_too_large();
                None
            }
        });
    }

    /// The first pattern that matches the channel.
    fn bringing(&self, name: &str) -> Option<&ChannelName> {
        let matches = |pattern: &&ChannelName| {
            ssegate_glob::matches(pattern.as_str().as_bytes(), name.as_bytes())
        };
        self.patterns.iter().find(matches)
    }

    fn change(&mut self, name: &ChannelName, change: impl FnOnce(&mut RecordedChannel)) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let before = channel.held;
        change(channel);
        let (after, has_items) = (channel.held, channel.recorder.has_items());
        self.waiting_bytes = (self.waiting_bytes + after).saturating_sub(before);
        self.note_held();
        if !has_items {
            self.active.remove(name);
            self.forget_idle(name);
        }
    }

    fn forget_idle(&mut self, name: &ChannelName) {
        let newest = self.timeline.newest().unwrap_or_default();
        if self.channels.get(name).is_some_and(|channel| channel.is_idle(newest)) {
            self.channels.remove(name);
            self.unopened.remove(name);
        }
    }
}

/// Whether this is a name of Redis or of gateways.
fn is_own(name: &str) -> bool {
    name.starts_with(OWN_NAMES) || ChannelName::RESERVED.iter().any(|own| name.starts_with(own))
}
