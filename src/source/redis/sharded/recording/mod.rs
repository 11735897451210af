//! Records sharded channels: what [`recorded`](super::super::recorded) does, for each slot by itself.
//!
//! All channels of a slot and the channel of its marks are subscribed on one connection, to the owner of the slot.
//! While the owner stays, all gateways receive them in one order. When that node unsubscribes, when the slot is found
//! at another one, or when the connection is lost, the order ends: nothing has a name until a mark arrives that was
//! published after everything was subscribed again ([`slots`]). The key of the last mark is in the same slot, so the
//! marks of the new owner are above those of the old one.

mod slots;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ssegate_hub::{ChannelName, Hub, OrderId, SourceKind, SourceRequest, Subscription};
use ssegate_resp::{Payload, Value};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::slots::{RecordFence, RecordedSlots};
use super::channels::ShardPlace;
use super::links::{NodeStart, ShardLinks};
use super::node::ShardCommand;
use super::{TICK, hub_name};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::recorded::RecordingEnd;
use crate::source::redis::error::SourceError;
use crate::source::redis::recorded::{RecordingParts, RecordingSettings, write_records};
use crate::source::redis::retry::FailureLog;
use crate::source::redis::server::RedisServer;

/// How often all slots are checked.
const SLOTS_INTERVAL: Duration = Duration::from_secs(1);

/// Records sharded channels, and delivers them.
#[derive(Debug)]
pub(crate) struct ShardedRecording {
    server: RedisServer,
    max_event_bytes: usize,
    links: ShardLinks,
    parts: RecordingParts,
    slots: RecordedSlots,
    look_at_slots: Instant,
    health: Health,
    end: RecordingEnd,
}

impl ShardedRecording {
    /// Records what the hub follows.
    pub(crate) fn new(
        server: RedisServer,
        (max_event_bytes, settings, memory, end): RecordingSettings,
        hub: Hub,
        (health, metrics): (Health, Metrics),
    ) -> Self {
        let record = (health.clone(), Health::sharded_recording_failed as _);
        let failures = Rc::new(RefCell::new(FailureLog::new(&server, metrics.clone(), record)));
        let wakes = Rc::default();
        let parts = RecordingParts { settings, hub, memory, metrics, failures, wakes };
        Self {
            links: ShardLinks::new(
                server.clone(),
                max_event_bytes,
                "connected again for recorded sharded channels",
            ),
            server,
            max_event_bytes,
            slots: RecordedSlots::new(parts.clone()),
            parts,
            look_at_slots: Instant::now(),
            health,
            end,
        }
    }

    /// Runs for ever: waits until anything is recorded, connects, reconnects. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let hub = self.parts.hub.clone();
        let first = hub.source_requests(SourceKind::ShardedRecorded).await;
        self.end.begin();
        let states = Rc::clone(&self.slots.states);
        let writing = (self.parts.clone(), self.end.clone());
        let writing = write_records(self.server.clone(), self.max_event_bytes, states, writing);
        self.apply(first);
        tokio::select! {
            () = self.listen() => {}
            () = writing => {}
        }
    }

    async fn listen(&mut self) {
        let hub = self.parts.hub.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.links.subscribe_due(Instant::now(), no_order);
            let fences = self.slots.settle(Instant::now());
            self.send_fences(fences);
            let cluster = self.links.cluster();
            let is_down = |slot| cluster.is_some_and(|cluster| cluster.is_down(slot));
            self.health.set_sharded_recording_ready(self.slots.are_ready(Instant::now(), is_down));
            hub.flush();
            tokio::select! {
                changes = hub.source_requests(SourceKind::ShardedRecorded) => self.apply(changes),
                reads = hub.log_reads(SourceKind::ShardedRecorded) => {
                    let now = Instant::now();
                    let fences = reads.filter_map(|call| self.slots.read(call, now)).collect();
                    self.send_fences(fences);
                }
                () = poll_fn(|cx| self.poll_nodes(cx)) => {}
                _ = tick.tick(), if !self.links.is_empty() => {
                    self.maintain(Instant::now());
                }
            }
        }
    }

    fn apply(&mut self, changes: impl Iterator<Item = (Subscription, SourceRequest)>) {
        for (Subscription { name, .. }, request) in changes {
            match request {
                SourceRequest::Follow => {
                    let names = self.slots.follow(&name);
                    names.into_iter().for_each(|name| self.links.channels.follow(name));
                }
                SourceRequest::Leave if self.slots.leave(&name) => self.leave(name),
                SourceRequest::Leave => {}
            }
        }
    }

    fn leave(&mut self, name: ChannelName) {
        if let Some(place) = self.links.channels.leave(&name) {
            self.send(&place, ShardCommand::Unsubscribe(name));
        }
    }

    fn send_fences(&mut self, fences: Vec<RecordFence>) {
        for RecordFence { place, number } in fences {
            self.send(&place, ShardCommand::Ping(Some(number)));
        }
    }

    fn send(&mut self, place: &ShardPlace, command: ShardCommand) {
        self.links.send(place, command, no_order);
    }

    fn poll_nodes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (mut has_progressed, mut at) = (false, 0);
        while let Some(polled) = self.links.poll_from(&mut at, cx) {
            has_progressed = true;
            match polled.and_then(|()| self.handle_all(at)) {
                Ok(()) => at += 1,
                Err(error) => self.lose(at, &error),
            }
        }
        if has_progressed { Poll::Ready(()) } else { Poll::Pending }
    }

    fn handle_all(&mut self, at: usize) -> Result<(), SourceError> {
        let (place, now, mut messages) = (self.links.nodes[at].place.clone(), Instant::now(), 0);
        while let Some(value) = self.links.nodes[at].next_value()? {
            match value {
                Value::Push(parts) => {
                    messages += u64::from(self.handle_push((at, &place), parts, now)?);
                }
                Value::Error(message) => match self.links.nodes[at].take_refused() {
                    Some(ShardCommand::Subscribe(names)) => {
                        self.refused(&place, names, &message);
                    }
                    Some(ShardCommand::Role(names)) => {
                        self.links.note_role_refused(&message);
                        names.iter().for_each(|name| self.confirmed(name, &place, now));
                    }
                    _ => {}
                },
                Value::Array(_) => {
                    let names = self.links.proven(at, &value, now)?;
                    names.iter().for_each(|name| self.confirmed(name, &place, now));
                }
                Value::Simple(_) | Value::Bulk(_) => match self.links.nodes[at].pop() {
                    Some(ShardCommand::Ping(None)) => {}
                    Some(ShardCommand::Ping(Some(number))) => self.slots.pass(number, now),
                    _ => return Err(SourceError::Unexpected("no command is pending".into())),
                },
                other => return Err(SourceError::Unexpected(format!("{other:?}"))),
            }
        }
        if messages > 0 {
            self.parts.metrics.source_messages(messages);
        }
        Ok(())
    }

    /// Returns whether it was a message.
    fn handle_push(
        &mut self,
        (at, place): (usize, &ShardPlace),
        parts: Vec<Value>,
        now: Instant,
    ) -> Result<bool, SourceError> {
        let mut parts = parts.into_iter();
        let kind = parts.next();
        let kind = kind.as_ref().and_then(Value::as_bytes).map_or(&b""[..], |kind| kind);
        match (kind, parts.next(), parts.next()) {
            (b"smessage", Some(Value::Bulk(channel)), Some(payload)) => {
                let payload = Payload::try_from(payload)
                    .map_err(|other| SourceError::Unexpected(format!("{other:?}")))?;
                return self.slots.receive(place, &channel, &payload, now);
            }
            (b"ssubscribe", Some(Value::Bulk(channel)), _) => {
                if let Some(names) = self.links.nodes[at].confirm(&hub_name(&channel)?)? {
                    names.iter().for_each(|name| self.confirmed(name, place, now));
                }
            }
            (b"sunsubscribe", Some(Value::Bulk(channel)), _) => {
                let name = hub_name(&channel)?;
                let is_asked = self.links.take_unsubscribed(at, &name, now);
                // A node unsubscribes by itself when another node owns the slot. It may also have confirmed an older
                // subscription, and the channel is followed again.
                if self.links.channels.lose(&name, place, now) {
                    self.slots.unsubscribed(&name, place);
                    if !is_asked {
                        self.links.outdate();
                    }
                }
            }
            // Other push messages are not replies, and are ignored.
            _ => {}
        }
        Ok(false)
    }

    fn confirmed(&mut self, name: &ChannelName, place: &ShardPlace, now: Instant) {
        match self.links.channels.confirm(name, place) {
            // It was left meanwhile.
            None => self.send(place, ShardCommand::Unsubscribe(name.clone())),
            Some(before) => {
                if let Some(before) = before {
                    self.send(&before, ShardCommand::Unsubscribe(name.clone()));
                }
                let channels = &self.links.channels;
                self.slots.confirm(name, place, |name| channels.is_at(name, place), now);
            }
        }
    }

    /// A node has refused a command.
    fn refused(&mut self, place: &ShardPlace, names: Vec<ChannelName>, message: &[u8]) {
        if let Some(name) = self.links.refused(place, names, message, Instant::now()) {
            let error = SourceError::Refused(String::from_utf8_lossy(message).into());
            let what = format!("SSUBSCRIBE to the channel {:?}", name.in_redis());
            let (error, is_marks) = (error.for_command(what), self.slots.is_marks(&name));
            let what = "Redis refused to subscribe to a recorded channel";
            match is_marks {
                true => self.parts.report_refusal(&error, what, true),
                false => self.parts.report(&error, what),
            }
        }
    }

    /// The connection to a node is lost, or could not be opened.
    fn lose(&mut self, at: usize, error: &SourceError) {
        let (node, _, loss) = self.links.lose(at);
        self.slots.lose_place(&node.place);
        self.parts.lost(error, "lost the connection for recorded sharded channels", loss);
    }

    /// Sends what is due, compares the channels with the slot map, and forgets slots that nobody needs.
    fn maintain(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(error) = self.links.next_silent(&mut at, now) {
            self.lose(at, &error);
        }
        if now >= self.look_at_slots {
            self.look_at_slots = now + SLOTS_INTERVAL;
            self.slots.maintain(now).into_iter().for_each(|marks| self.leave(marks));
        }
        self.links.compare(now);
        drop(self.links.take_unneeded(|_| false));
    }
}

/// These messages are in the order of their log, and in no order of the hub.
fn no_order(_: &ShardPlace) -> NodeStart {
    (OrderId::PLAIN, None)
}
