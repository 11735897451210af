//! The slots whose channels are recorded: the node where each is subscribed, and what was received. Without I/O.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::{ChannelName, LogRange, LogRead, Subscription};
use ssegate_resp::Payload;
use tokio::time::Instant;

use super::super::channels::ShardPlace;
use crate::source::redis::cluster::slot_of;
use crate::source::redis::error::SourceError;
use crate::source::redis::recorded::{RecordOrder, RecordStates, RecordingParts, RecordingState};

/// A slot that has had no mark for this long counts as not working.
const FIRST_MARK: Duration = Duration::from_secs(5);

/// The same for a slot that was lost with its node in a Cluster, while the node can be used. It takes up to nine seconds
/// to find out that it cannot: a look at it four seconds at most, and the one before may have begun just earlier.
const RECOVERY: Duration = Duration::from_secs(10);

/// The slots that have recorded channels.
#[derive(Debug)]
pub(super) struct RecordedSlots {
    parts: RecordingParts,
    pub(super) states: Rc<RecordStates>,
    all: HashMap<u16, RecordedSlot>,
    // Slots without a mark since their subscription was lost, or for too long after they were added; and when each
    // counts as not working.
    lost: HashMap<u16, Instant>,
    // Slots that have received anything since [`Self::settle`].
    heard: BTreeSet<u16>,
    // Reads that wait for their fence, by its number.
    fenced: HashMap<u64, (u16, LogRead)>,
    next_fence: u64,
}

#[derive(Debug)]
struct RecordedSlot {
    state: Rc<RecordingState>,
    marks: ChannelName,
    // The node where the channel of marks is subscribed. Messages from other nodes do not count.
    place: Option<ShardPlace>,
    since: Instant,
}

/// A fence to send to this node. A read waits for it: at its reply everything published before has come.
#[derive(Debug, PartialEq)]
pub(super) struct RecordFence {
    pub(super) place: ShardPlace,
    pub(super) number: u64,
}

impl RecordedSlots {
    pub(super) fn new(parts: RecordingParts) -> Self {
        Self {
            parts,
            states: Rc::default(),
            all: HashMap::new(),
            lost: HashMap::new(),
            heard: BTreeSet::new(),
            fenced: HashMap::new(),
            next_fence: 0,
        }
    }

    /// Whether recording works as far as is known: at least one slot is not lost, or the node of each lost slot `is_down`.
    /// A few lost slots do not make the gateway unready while others work. Neither does a node that has just died: it
    /// takes a while to find out that it is down, and for a replica to take its place.
    pub(super) fn are_ready(&mut self, now: Instant, is_down: impl Fn(u16) -> bool) -> bool {
        if self.lost.len() < self.all.len() {
            return true;
        }
        let mut are_ready = true;
        for (slot, fails_at) in &mut self.lost {
            if is_down(*slot) {
                // Its next owner has the time that this one had.
                *fails_at = now + RECOVERY;
            }
            are_ready &= now < *fails_at;
        }
        are_ready
    }

    /// The hub needs a channel. Returns the channels to subscribe to.
    pub(super) fn follow(&mut self, name: &ChannelName) -> Vec<ChannelName> {
        let Some(slot) = self.slot(name) else { return Vec::new() };
        let marks = slot.marks.clone();
        let is_new = slot.state.book.borrow_mut().follow(name);
        slot.state.touch();
        if is_new { vec![marks, name.clone()] } else { Vec::new() }
    }

    /// The hub needs a channel no longer. Returns whether to unsubscribe from it.
    pub(super) fn leave(&self, name: &ChannelName) -> bool {
        let Some(slot) = self.all.get(&slot_of_name(name)) else { return false };
        let is_left = slot.state.book.borrow_mut().leave(name);
        slot.state.touch();
        is_left
    }

    /// The slot of a channel.
    fn slot(&mut self, name: &ChannelName) -> Option<&mut RecordedSlot> {
        let number = slot_of_name(name);
        if !self.all.contains_key(&number) {
            let order = RecordOrder::of_slot(number);
            let marks = ChannelName::sharded(&order.marks()).ok()?;
            let state = RecordingState::new(&self.parts, order);
            self.states.insert(&state);
            self.all
                .insert(number, RecordedSlot { state, marks, place: None, since: Instant::now() });
        }
        self.all.get_mut(&number)
    }

    /// A channel is subscribed at this node. The channel of marks decides where the slot is: a subscription of the slot
    /// at another node is lost then, and the channels that `is_here` finds at the same node count. A channel at any
    /// other node does not count until both are at the same one.
    pub(super) fn confirm(
        &mut self,
        name: &ChannelName,
        place: &ShardPlace,
        is_here: impl Fn(&ChannelName) -> bool,
        now: Instant,
    ) {
        let number = slot_of_name(name);
        let Some(slot) = self.all.get(&number) else { return };
        let is_marks = *name == slot.marks;
        let is_elsewhere = slot.place.as_ref() != Some(place);
        if is_marks && is_elsewhere {
            self.lose(number);
        }
        let Some(slot) = self.all.get_mut(&number) else { return };
        let mut book = slot.state.book.borrow_mut();
        let subscription = |name| Subscription { name, is_pattern: false };
        match (is_marks, is_elsewhere) {
            (true, _) => {
                slot.place = Some(place.clone());
                // A mark that was published earlier has not arrived here.
                book.request_mark(now);
                let here = book.followed().into_iter().filter(|name| is_elsewhere && is_here(name));
                here.for_each(|name| book.confirm(&subscription(name), now));
            }
            (false, true) => book.lose_channel(name),
            (false, false) => book.confirm(&subscription(name.clone()), now),
        }
        drop(book);
        slot.state.touch();
    }

    /// Whether it is the channel of the marks of a slot, which no client chooses.
    pub(super) fn is_marks(&self, name: &ChannelName) -> bool {
        self.all.get(&slot_of_name(name)).is_some_and(|slot| slot.marks == *name)
    }

    /// A channel is not subscribed at this node any more. Without the channel of marks the whole slot is lost.
    pub(super) fn unsubscribed(&mut self, name: &ChannelName, place: &ShardPlace) {
        let number = slot_of_name(name);
        let Some(slot) = self.all.get(&number) else { return };
        if slot.place.as_ref() != Some(place) {
            return;
        }
        match *name == slot.marks {
            true => self.lose(number),
            false => {
                slot.state.book.borrow_mut().lose_channel(name);
                slot.state.touch();
            }
        }
    }

    /// The connection to a node is lost.
    pub(super) fn lose_place(&mut self, place: &ShardPlace) {
        let here = self.all.iter().filter(|(_, slot)| slot.place.as_ref() == Some(place));
        let here: Vec<u16> = here.map(|(number, _)| *number).collect();
        here.into_iter().for_each(|number| self.lose(number));
    }

    fn lose(&mut self, number: u16) {
        let Some(slot) = self.all.get_mut(&number) else { return };
        let Some(place) = slot.place.take() else { return };
        let now = Instant::now();
        // Nobody takes the place of the one server.
        let fails_at = if place.is_some() { now + RECOVERY } else { now };
        self.lost.entry(number).or_insert(fails_at);
        slot.state.book.borrow_mut().lose();
        let fenced = self.fenced.extract_if(|_, (of, _)| *of == number);
        fenced.for_each(|(_, (_, call))| slot.state.hold_unplaced(call));
        slot.state.touch();
    }

    /// A message of a channel, or a mark, has come from this node. Returns whether it was a message.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn receive(
        &mut self,
        place: &ShardPlace,
        channel: &Bytes,
        payload: &Payload,
        now: Instant,
    ) -> Result<bool, SourceError> {
        let number = slot_of(channel);
        let Some(slot) = self.all.get(&number).filter(|slot| slot.place.as_ref() == Some(place))
        else {
            return Ok(false);
        };
        self.heard.insert(number);
        let channel = str::from_utf8(channel)
            .map_err(|_| SourceError::Unexpected(String::from_utf8_lossy(channel).into_owned()))?;
        let mut book = slot.state.book.borrow_mut();
        if slot.marks.as_sharded() != Some(channel) {
            let name = [ChannelName::SHARDED, channel].concat();
            book.receive(None, &name, payload, now);
            return Ok(true);
        }
        if let Payload::Whole(text) = payload
            && let Ok(text) = str::from_utf8(text)
        {
            book.receive_mark(text, now);
        }
        Ok(false)
    }

    /// Begins a read of a log for a client. Returns the fence that the read has to wait for, if any.
    pub(super) fn read(&mut self, call: LogRead, now: Instant) -> Option<RecordFence> {
        let number = slot_of_name(&call.log);
        let slot = self.slot(&call.log)?;
        let (state, place) = (Rc::clone(&slot.state), slot.place.clone());
        let book = state.book.borrow();
        let is_placed = match call.range {
            LogRange::After { after, until } => after < until || book.has_come(after),
            LogRange::BeforeNewest(_) => true,
        };
        let has_mark = book.has_mark();
        drop(book);
        match (is_placed, place.filter(|_| has_mark)) {
            (true, _) => state.read_past(call, now),
            // Before the first mark, every id looks like one of another Redis.
            (false, None) => state.hold_unplaced(call),
            (false, Some(place)) => {
                self.next_fence += 1;
                self.fenced.insert(self.next_fence, (number, call));
                return Some(RecordFence { place, number: self.next_fence });
            }
        }
        None
    }

    /// A fence was passed: everything published before it was sent has come.
    pub(super) fn pass(&mut self, fence: u64, now: Instant) {
        if let Some((number, call)) = self.fenced.remove(&fence)
            && let Some(slot) = self.all.get(&number)
        {
            slot.state.read_past(call, now);
        }
    }

    /// Continues the slots that have received anything. Returns the fences to send.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<RecordFence> {
        let mut fences = Vec::new();
        for number in std::mem::take(&mut self.heard) {
            let Some(slot) = self.all.get(&number) else { continue };
            let state = Rc::clone(&slot.state);
            state.touch();
            self.parts.metrics.recorded_waiting(state.book.borrow().held_by_all());
            if state.book.borrow().has_mark() {
                self.lost.remove(&number);
                let unplaced = state.take_unplaced();
                fences.extend(unplaced.into_iter().filter_map(|call| self.read(call, now)));
            }
        }
        fences
    }

    /// Forgets slots that are not needed any more, and finds those that get no marks. Returns the channels of marks to
    /// unsubscribe from.
    pub(super) fn maintain(&mut self, now: Instant) -> Vec<ChannelName> {
        let mut left = Vec::new();
        let (states, lost) = (&self.states, &mut self.lost);
        self.all.retain(|number, RecordedSlot { state, marks, since, .. }| {
            let book = state.book.borrow();
            if now >= *since + FIRST_MARK && !book.has_mark() {
                lost.entry(*number).or_insert(now);
            }
            let is_needed = book.is_needed() || book.has_reads() || state.awaits_unplaced();
            if !is_needed {
                states.remove(*number);
                lost.remove(number);
                left.push(marks.clone());
            }
            is_needed
        });
        left
    }
}

fn slot_of_name(name: &ChannelName) -> u16 {
    slot_of(name.in_redis().as_bytes())
}

#[cfg(test)]
mod tests {
    mod settling;
    mod sharing;

    use std::cell::RefCell;
    use std::rc::Rc;

    use bytes::Bytes;
    use redis::{ConnectionAddr, IntoConnectionInfo as _};
    use ssegate_hub::{ChannelName, Hub, HubSettings};
    use ssegate_resp::Payload;
    use tokio::time::Instant;

    use super::{FIRST_MARK, RECOVERY, RecordedSlots, ShardPlace, slot_of};
    use crate::health::Health;
    use crate::metrics::Metrics;
    use crate::source::recorded::RecordedSettings;
    use crate::source::redis::location::RedisLocation;
    use crate::source::redis::recorded::{RecordMemory, RecordingParts};
    use crate::source::redis::retry::FailureLog;
    use crate::source::redis::server::RedisServer;

    pub(super) const MARK: u64 = 1_764_511_200_000;

    pub(super) fn at(port: u16) -> ShardPlace {
        Some(ConnectionAddr::Tcp("10.0.0.1".to_owned(), port))
    }

    pub(super) fn slots() -> RecordedSlots {
        let (hub, _links) = Hub::new(HubSettings::default(), 1, ());
        let metrics = Metrics::new().expect("metrics");
        let record = (Health::default(), Health::sharded_recording_failed as _);
        let info = "redis://127.0.0.1:1".into_connection_info().expect("a URL");
        let server = RedisServer::new(RedisLocation::server(&info));
        let failures = Rc::new(RefCell::new(FailureLog::new(&server, metrics.clone(), record)));
        let (settings, memory) = (RecordedSettings::default(), RecordMemory::new(1 << 20));
        let wakes = Rc::default();
        RecordedSlots::new(RecordingParts { settings, hub, memory, metrics, failures, wakes })
    }

    /// A channel, and that of its marks.
    pub(super) fn follow(slots: &mut RecordedSlots, channel: &str) -> [ChannelName; 2] {
        let name = ChannelName::sharded(channel).expect("a name");
        let names = slots.follow(&name);
        let [marks, followed] = &names[..] else { panic!("{names:?}") };
        assert_eq!(*followed, name);
        [name, marks.clone()]
    }

    pub(super) fn receive(
        slots: &mut RecordedSlots,
        place: &ShardPlace,
        name: &ChannelName,
        text: String,
    ) {
        let channel = Bytes::copy_from_slice(name.in_redis().as_bytes());
        let payload = Payload::Whole(text.into());
        slots.receive(place, &channel, &payload, Instant::now()).expect("well-formed");
    }

    /// How many messages wait to be recorded, and whether a mark has come.
    pub(super) fn waiting(slots: &RecordedSlots, name: &ChannelName) -> (usize, bool) {
        let state = slots.states.get(slot_of(name.in_redis().as_bytes())).expect("it is recorded");
        let book = state.book.borrow();
        (book.waiting_of(name), book.has_mark())
    }

    #[test]
    fn what_comes_has_a_name_from_a_mark_on_of_the_node_that_owns_the_slot() {
        let (mut slots, now) = (slots(), Instant::now());
        let [name, marks] = follow(&mut slots, "orders:7");
        assert!(slots.follow(&name).is_empty(), "it is followed");
        receive(&mut slots, &at(1), &marks, format!("{MARK} other"));
        assert_eq!(waiting(&slots, &name), (0, false), "nothing is subscribed to");
        [&name, &marks].into_iter().for_each(|name| slots.confirm(name, &at(1), |_| true, now));
        receive(&mut slots, &at(1), &name, "unnamed".into());
        receive(&mut slots, &at(1), &marks, format!("{MARK} other"));
        receive(&mut slots, &at(1), &name, "1".into());
        receive(&mut slots, &at(2), &name, "of another node".into());
        receive(&mut slots, &at(2), &marks, format!("{} other", MARK + 1));
        assert_eq!(waiting(&slots, &name), (1, true));
        // The slot is found at another node: what still comes from the old one does not count.
        slots.confirm(&name, &at(2), |_| true, now);
        receive(&mut slots, &at(1), &marks, format!("{} other", MARK + 2));
        receive(&mut slots, &at(1), &name, "late".into());
        assert_eq!(waiting(&slots, &name), (1, true));
        slots.confirm(&marks, &at(2), |_| true, now);
        assert_eq!(waiting(&slots, &name), (1, false));
        receive(&mut slots, &at(2), &name, "unnamed".into());
        receive(&mut slots, &at(2), &marks, format!("{} other", MARK + 3));
        receive(&mut slots, &at(2), &name, "2".into());
        assert_eq!(waiting(&slots, &name), (2, true));
        // The old node unsubscribes; then the new one does.
        slots.unsubscribed(&name, &at(1));
        receive(&mut slots, &at(2), &name, "3".into());
        assert_eq!(waiting(&slots, &name), (3, true));
        slots.unsubscribed(&name, &at(2));
        receive(&mut slots, &at(2), &name, "unnamed".into());
        assert_eq!(waiting(&slots, &name), (3, true));
        slots.unsubscribed(&marks, &at(2));
        assert_eq!(waiting(&slots, &name), (3, false));
    }

    #[test]
    fn a_lost_node_takes_its_slots_alone_and_all_of_them_are_no_good() {
        let (mut slots, now) = (slots(), Instant::now());
        let [one, two] = ["foo", "bar"].map(|name| follow(&mut slots, name));
        for (names, mark, place) in [(&one, MARK, at(1)), (&two, MARK + 9, at(2))] {
            names.iter().for_each(|name| slots.confirm(name, &place, |_| true, now));
            receive(&mut slots, &place, &names[1], format!("{mark} other"));
        }
        slots.settle(now);
        slots.lose_place(&at(1));
        assert_eq!((waiting(&slots, &one[0]).1, waiting(&slots, &two[0]).1), (false, true));
        assert!(slots.are_ready(now + RECOVERY, |_| false), "one goes on");
        slots.lose_place(&at(2));
        let later = Instant::now() + RECOVERY;
        assert!(
            slots.are_ready(now, |_| false),
            "a node that has died is not known to be down yet"
        );
        assert!(slots.are_ready(later, |_| true), "every gateway is without these nodes");
        assert!(slots.are_ready(later, |_| false), "others have taken their place just now");
        let later = later + RECOVERY;
        assert!(!slots.are_ready(later, |_| false), "the nodes can be used, and the slots cannot");
        one.iter().for_each(|name| slots.confirm(name, &at(2), |_| true, now));
        receive(&mut slots, &at(2), &one[1], format!("{} other", MARK + 1));
        slots.settle(now);
        assert!(slots.are_ready(later, |_| false));
        // A channel that is not needed is unsubscribed, with its channel of marks.
        assert!(slots.leave(&two[0]));
        assert_eq!(slots.maintain(now), [two[1].clone()]);
        assert!(slots.maintain(now).is_empty() && slots.are_ready(later, |_| false));
        // A slot that never gets a mark counts as lost, too.
        let mut slots = self::slots();
        follow(&mut slots, "foo");
        slots.maintain(now);
        assert!(slots.are_ready(now, |_| false));
        let later = Instant::now() + FIRST_MARK;
        slots.maintain(later);
        assert!(!slots.are_ready(later, |_| false));
        // And so does the one server at once.
        let mut slots = self::slots();
        let names = follow(&mut slots, "foo");
        names.iter().for_each(|name| slots.confirm(name, &None, |_| true, now));
        slots.lose_place(&None);
        assert!(!slots.are_ready(Instant::now(), |_| false));
    }
}
