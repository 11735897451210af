//! The position of a stream as other gateways of a fleet know it.
//!
//! Events carry theirs. This is for a position without an event: with `ready`, at the end of a stream, and at
//! a mark that came after the last event.

use std::rc::Rc;

use tokio::time::Instant;

use super::Shard;
use super::local_channel::{LocalChannel, OpenStream};
use crate::Ids;
use crate::fleet::marks::{MAX_MARKS, ReceivedMark};
use crate::fleet::name::FleetPosition;
use crate::fleet::order_id::OrderId;
use crate::fleet::rules::FleetRule;
use crate::subject::ChannelIndex;
use crate::timed_streams::StreamKey;

/// The number of marks after which a stream that stands at a mark is sent a newer one: more than four hours
/// with a mark each second, and a quarter of the marks that are remembered.
const MARKS_UNTIL_RENEWED: usize = MAX_MARKS / 4;

impl Shard {
    /// The place of a stream that has everything up to `number` on all its channels; `None` if it has no name.
    ///
    /// It is that of the newest message of all channels, if that is not older than any of their
    /// confirmations. Without such a message it is that of the newest mark, if that came after all
    /// confirmations. If the stream was sent a message of which another copy may follow, `number` may be the
    /// number of that message.
    pub(super) fn place(&self, stream: &OpenStream, number: u64) -> Option<FleetPosition> {
        let channels = stream.channels.borrow();
        let first = channels.first()?;
        // Sharded channels may be lost one by one, and may have different orders, but a place names only one
        // of them.
        if first.topic.is_sharded() && channels.len() > 1 {
            return None;
        }
        let mark = self.newest_mark(first.order.get())?;
        let is_known = |channel: &Rc<LocalChannel>| {
            channel.is_confirmed.get() && channel.topic.ids == Ids::Ours
        };
        let confirmed = channels.iter().map(|channel| channel.confirmed.get()).max()?;
        if !channels.iter().all(is_known) || mark.number < confirmed {
            return None;
        }
        let all =
            if FleetRule::NewestOfAllChannels.holds() { &channels[..] } else { &channels[..1] };
        let newest = all.iter().max_by_key(|channel| {
            let (newest, _) = channel.newest.get();
            // Copies of one message share a number: it is named by its channel.
            (newest, !channel.topic.subscription.is_pattern)
        })?;
        let (newest_number, name) = newest.newest.get();
        // The stream was sent a message from its past that is still on its way to this shard.
        if newest_number < number && number > self.position() {
            return None;
        }
        if newest_number <= confirmed || name.known().is_none() && newest_number <= mark.number {
            return Some(FleetPosition::of_mark(mark.id, first.tag));
        }
        // Another copy of it may follow: the stream does not stand behind it yet.
        if newest_number > number {
            return None;
        }
        name.known().map(|name| FleetPosition { tag: newest.tag, name })
    }

    /// A mark has come. Streams of channels that were confirmed since the mark before had no place until now.
    /// Sends the new position to those whose clients accept a block without an event.
    pub(super) fn mark(&self, order: OrderId, mark: ReceivedMark, now: Instant) {
        let is_first = self.0.newest_marks.borrow_mut().insert(order, mark).is_none();
        // Channels of another order wait for a mark there.
        let of = |index: &ChannelIndex| self.channel(*index).map(|channel| channel.order.get());
        let mut waiting: Vec<ChannelIndex> = self.0.unnamed.take();
        let mut unnamed: Vec<ChannelIndex> =
            waiting.extract_if(.., |index| of(index) == Some(order)).collect();
        waiting.retain(|index| of(index).is_some());
        self.0.unnamed.replace(waiting);
        if is_first {
            unnamed = self.0.by_index.borrow().keys().copied().collect();
            unnamed.retain(|index| of(index) == Some(order));
        }
        let number = self.position();
        if self.0.marks.replace(self.0.marks.get() + 1) >= MARKS_UNTIL_RENEWED {
            self.renew_places(now);
        }
        for key in self.0.untold.take() {
            if let Some(stream) = self.0.streams.get(key)
                && stream.mailbox.takes_position()
            {
                if !Self::has_any_in(&stream, order) {
                    self.0.untold.borrow_mut().push(key);
                    continue;
                }
                let place = self.place(&stream, number);
                stream.mailbox.send_position(number, place, now);
            }
        }
        for channel in unnamed.into_iter().filter_map(|index| self.channel(index)) {
            for subscriber in &*channel.subscribers.borrow() {
                let stream = &subscriber.stream;
                // A stream with several such channels is sent its position once.
                let is_last = || {
                    let channels = stream.channels.borrow();
                    let newest = channels.iter().max_by_key(|channel| channel.confirmed.get());
                    newest.is_some_and(|newest| Rc::ptr_eq(newest, &channel))
                };
                if stream.mailbox.takes_position() && is_last() {
                    let place = self.place(stream, number);
                    stream.mailbox.send_position(number, place, now);
                }
            }
        }
    }

    /// The newest mark in an order.
    pub(super) fn newest_mark(&self, order: OrderId) -> Option<ReceivedMark> {
        self.0.newest_marks.borrow().get(&order).copied()
    }

    /// Nothing more comes in this order, or nothing before all its channels are confirmed again.
    pub(super) fn end_order(&self, order: OrderId) {
        self.0.newest_marks.borrow_mut().remove(&order);
    }

    /// Whether there was a mark in the order of this stream's channels.
    pub(super) fn has_mark_for(&self, stream: &OpenStream) -> bool {
        let channels = stream.channels.borrow();
        let Some(first) = channels.first() else { return false };
        let is_named = !first.topic.is_sharded() || channels.len() == 1;
        is_named && self.newest_mark(first.order.get()).is_some()
    }

    fn has_any_in(stream: &OpenStream, order: OrderId) -> bool {
        stream.channels.borrow().iter().any(|channel| channel.order.get() == order)
    }

    /// Quiet streams are named by marks that will be forgotten at some time: sends their clients newer positions.
    fn renew_places(&self, now: Instant) {
        self.0.marks.set(0);
        let number = self.position();
        for stream in self.0.streams.keys().into_iter().filter_map(|key| self.0.streams.get(key)) {
            // A message stays known for as long as it is the newest.
            let place = self.place(&stream, number).filter(|place| place.name.known().is_none());
            if place.is_some() && stream.mailbox.takes_position() {
                stream.mailbox.send_position(number, place, now);
            }
        }
    }

    /// A stream was sent its position without a place: it is sent a new one at the next mark.
    pub(super) fn note_without_place(&self, stream: &OpenStream, key: StreamKey) {
        let is_numbered = |channel: &Rc<LocalChannel>| channel.topic.ids == Ids::Ours;
        if !stream.channels.borrow().iter().all(is_numbered) {
            return;
        }
        let mut untold = self.0.untold.borrow_mut();
        // Marks may stay away while clients come and go.
        if untold.len() == untold.capacity() {
            untold.retain(|key| self.0.streams.get(*key).is_some());
        }
        untold.push(key);
    }

    /// A stream is about to end: sends its client the last position, if it accepts a block without an event.
    pub(super) fn send_last_position(&self, stream: &OpenStream, now: Instant) {
        if self.has_mark_for(stream) && stream.mailbox.takes_position() {
            let number = self.position();
            if let Some(place) = self.place(stream, number) {
                stream.mailbox.send_position(number, Some(place), now);
            }
        }
    }
}
