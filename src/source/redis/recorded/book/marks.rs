//! Marks: what they name and begin, and when this gateway publishes one.

use std::time::{Duration, SystemTime};

use ssegate_hub::ChannelName;
use ssegate_record::{MarkReceived, RecordId};
use tokio::time::Instant;

use super::{MAX_AHEAD, RecordBook};
use crate::source::redis::recorded::channel::{CatchUp, RecordedChannel, entry_id};
use crate::source::redis::recorded::members::GONE_AFTER;
use crate::source::redis::recorded::order::RecordOrder;
use crate::source::redis::recorded::past::PastRead;

/// A mark waits for others that ask for one.
const MARK_DELAY: Duration = Duration::from_millis(3);
/// Each gateway publishes a mark after this long, at the latest.
pub(super) const MARK_INTERVAL: Duration = Duration::from_secs(2);
/// The same in a slot of sharded channels where nothing waits: there may be thousands of them.
const QUIET_MARK_INTERVAL: Duration = Duration::from_secs(20);
/// Names that one mark asks for, at most.
const MAX_ASKED: usize = 512;

/// What stands before the mark up to which a gateway has appended everything. It is no name of a channel, and so means
/// nothing to a gateway that does not know it.
const APPENDED: &str = "\n\t";

/// How long a gateway may publish no mark in this order until it is gone.
pub(super) fn gone_after(order: &RecordOrder) -> Duration {
    match order.is_sharded() {
        true => QUIET_MARK_INTERVAL + GONE_AFTER,
        false => GONE_AFTER,
    }
}

/// A mark, as a gateway has published it.
struct MarkText<'a> {
    mark: u64,
    // Who has published it.
    member: &'a str,
    // The mark before which it has appended all that it received, if it says so.
    appended_before: Option<u64>,
    // The channels whose logs are to be completed up to the mark.
    names: std::str::Split<'a, char>,
}

impl<'a> MarkText<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (head, names) = text.split_once('\n').unwrap_or((text, ""));
        let (mark, member) = head.split_once(' ')?;
        let appended = names.split('\n').next().and_then(|line| line.strip_prefix('\t'));
        let appended_before = appended.and_then(|mark| mark.parse().ok());
        Some(Self { mark: mark.parse().ok()?, member, appended_before, names: names.split('\n') })
    }
}

impl RecordBook {
    /// Takes a mark.
    pub(in super::super::super) fn receive_mark(&mut self, text: &str, now: Instant) {
        let Some(MarkText { mark, member, appended_before, names }) = MarkText::parse(text) else {
            return;
        };
        if !self.may_be_mark(mark) {
            if self.log.pass("mark", now).is_some() {
                tracing::warn!(
                    mark,
                    "ignored a mark that is far ahead of the clock of Redis; does anybody else publish to {}?",
                    self.order.marks()
                );
            }
            return;
        }
        if self.members.note(member, appended_before, now) {
            // It learns of this gateway.
            self.request_mark(now);
        }
        match self.timeline.receive(mark) {
            // If the clock has gone back by more than marks may be ahead, another one would not be above it either.
            MarkReceived::Behind if !self.may_be_mark(self.timeline.floor()) => return,
            MarkReceived::Behind => return self.request_mark(now),
            MarkReceived::OtherTimeline => {
                let open = self.channels.iter_mut().filter(|(_, c)| c.is_confirmed || c.is_fed);
                for (name, channel) in open {
                    channel.recorder.end_run();
                    self.unopened.insert(name.clone());
                }
                // What patterns brought before cannot be appended to such a log either.
                self.brought_since.values_mut().flatten().for_each(|since| *since = mark);
            }
            MarkReceived::Newer => {}
        }
        self.newest_ever = self.newest_ever.max(mark);
        self.first_mark.get_or_insert(now);
        let is_any_new = self.brought_since.values().any(Option::is_none);
        for since in self.brought_since.values_mut() {
            *since = since.or(Some(mark));
        }
        if is_any_new {
            let fed = self.fed_and_closed();
            self.unopened.extend(fed);
        }
        for name in std::mem::take(&mut self.unopened) {
            self.open(&name, mark, now);
        }
        for name in names {
            self.seal(name, mark, now);
        }
        self.seal_all(mark, now);
        if member == self.members.own() {
            self.members.forget_gone(now);
            let is_idle = |channel: &RecordedChannel| channel.is_idle(mark);
            self.channels.retain(|_, channel| !is_idle(channel));
        }
    }

    /// Redis has published a mark, and its clock was at this time, in milliseconds since 1970.
    pub(in super::super) fn note_redis_time(&mut self, time: u64) {
        self.redis_time = Some(time);
    }

    /// Whether this number is not further ahead of the clock of Redis than marks are.
    pub(super) fn may_be_mark(&self, mark: u64) -> bool {
        let time = self.redis_time.unwrap_or_else(|| {
            let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since_1970.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        });
        mark <= time.saturating_add(MAX_AHEAD)
    }

    /// The mark that is due: the number that it has to be above, and what stands behind it.
    pub(in super::super) fn take_mark(&mut self, now: Instant) -> Option<(u64, String)> {
        self.mark_due.filter(|due| *due <= now)?;
        let mut text = self.members.own().to_owned();
        if let Some(mark) = self.appended_before() {
            text.push_str(APPENDED);
            text.push_str(&mark.to_string());
        }
        for _ in 0..MAX_ASKED {
            let Some(name) = self.asked.pop_first() else { break };
            text.push('\n');
            text.push_str(name.as_str());
        }
        let next = match (self.asked.is_empty(), self.order.is_sharded() && !self.is_active()) {
            (false, _) => MARK_DELAY,
            // Until a mark has come, it may have been published at a node where no gateway is subscribed any more.
            (true, true) if self.has_mark() => QUIET_MARK_INTERVAL,
            (true, _) => MARK_INTERVAL,
        };
        self.mark_due = Some(now + next);
        Some((self.timeline.floor().max(self.newest_ever), text))
    }

    /// The mark before which all that this gateway has received is in the logs, or was dropped.
    fn appended_before(&self) -> Option<u64> {
        let active = self.active.iter().filter_map(|name| self.channels.get(name));
        let oldest = active.filter_map(|channel| channel.recorder.oldest()).map(|id| id.mark);
        oldest.chain(self.timeline.newest()).min()
    }

    /// A mark, with what stood behind it, was refused, or may not have been published: the next one asks for the same.
    pub(in super::super) fn mark_failed(&mut self, text: &str, is_refused: bool, now: Instant) {
        let names = text.split('\n').skip(1).filter_map(|name| ChannelName::new(name).ok());
        self.asked.extend(names);
        match is_refused {
            true => self.mark_due = Some(now + MARK_INTERVAL),
            false => self.request_mark(now),
        }
    }

    /// When the next mark is due.
    pub(in super::super) fn mark_due(&self) -> Option<Instant> {
        self.mark_due
    }

    /// A mark is needed soon.
    pub(in super::super::super) fn request_mark(&mut self, now: Instant) {
        let at = now + MARK_DELAY;
        self.mark_due = Some(self.mark_due.map_or(at, |due| due.min(at)));
    }

    /// Asks at the next mark whoever can to complete this log.
    pub(in super::super) fn ask(&mut self, name: &ChannelName, now: Instant) {
        self.asked.insert(name.clone());
        self.request_mark(now);
    }

    fn fed_and_closed(&self) -> Vec<ChannelName> {
        let brought = |name: &ChannelName| {
            let pattern = self.bringing(name.as_str());
            pattern.is_some_and(|pattern| self.brought_since.contains_key(pattern))
        };
        let closed = self.channels.iter().filter(|(_, c)| c.is_fed && !c.recorder.is_open());
        closed.filter(|(name, _)| brought(name)).map(|(name, _)| name.clone()).collect()
    }

    /// From this mark on everything is received.
    fn open(&mut self, name: &ChannelName, mark: u64, now: Instant) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.is_confirmed = true;
        let is_whole = channel.recorder.place(mark).is_some();
        channel.recorder.begin(mark);
        if std::mem::take(&mut channel.is_dropped) {
            // Else a channel that only a pattern brings is forgotten, and what was dropped with it.
            channel.recorder.seal(mark);
            channel.pace.begin(now);
            self.active.insert(name.clone());
        }
        let until = entry_id(RecordId::start(mark));
        match channel.newest {
            // It was followed before, and has missed something.
            Some(after) if !is_whole && after < until => {
                channel.catch_up = Some(CatchUp::new(until));
                self.add_read(PastRead::catch_up(name.clone(), (after, until), now));
            }
            Some(_) => {}
            None => self.begin(name),
        }
    }

    /// A channel that a pattern brings is complete since the pattern's mark.
    pub(super) fn begin_fed(&mut self, name: &ChannelName) {
        let Some(pattern) = self.bringing(name.as_str()) else { return };
        let Some(Some(since)) = self.brought_since.get(pattern) else { return };
        let since = *since;
        if let Some(channel) = self.channels.get_mut(name)
            && !channel.is_confirmed
        {
            channel.is_confirmed = true;
            channel.recorder.begin(since);
        }
    }

    /// Tells the hub from where on it gets the messages, if that is known.
    pub(super) fn begin(&mut self, name: &ChannelName) {
        let Some(mark) = self.timeline.newest() else { return };
        let Some(channel) = self.channels.get_mut(name).filter(|c| c.is_followed) else { return };
        let Some(place) = channel.recorder.place(mark) else { return };
        let id = *channel.newest.get_or_insert_with(|| entry_id(place));
        self.hub.begin_log((self.order.source(), name.as_str()), id);
    }

    /// Whoever has received everything up to this mark says so in the log.
    fn seal(&mut self, name: &str, mark: u64, now: Instant) {
        let is_brought = self
            .bringing(name)
            .is_some_and(|pattern| matches!(self.brought_since.get(pattern), Some(Some(_))));
        if is_brought
            && !self.channels.contains_key(name)
            && let Ok(name) = ChannelName::new(name)
        {
            self.channels
                .insert(name.clone(), RecordedChannel { is_fed: true, ..Default::default() });
            self.begin_fed(&name);
        }
        let Some((name, _)) = self.channels.get_key_value(name) else { return };
        let name = name.clone();
        let Some(channel) = self.channels.get_mut(&name) else { return };
        if channel.recorder.is_open() {
            channel.recorder.seal(mark);
            channel.pace.begin(now);
            self.active.insert(name);
        }
    }
}
