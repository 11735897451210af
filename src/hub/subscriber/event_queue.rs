//! What waits for one subscriber, within a bound.
//!
//! Pure: it neither wakes nor writes. Whoever pushes is told what became of the event, and decides
//! what follows from it.

use rustc_hash::FxHashSet;
use tokio::time::Instant;

use crate::hub::WhenFull;
use crate::hub::subject::Subject;
use crate::hub::subscriber::small_queue::SmallQueue;
use crate::sse::frame::Frame;

/// A frame on its way to a socket.
#[derive(Clone, Debug)]
pub(crate) struct QueuedFrame {
    /// The text of it.
    pub(crate) frame: Frame,
    /// When it was received from the source.
    pub(crate) received: Instant,
    /// Its number in the hub; 0 where it has none.
    pub(crate) number: u64,
    /// What it tells of; `None` for what is not an event (`retry`, `ready`, comments, gaps).
    pub(crate) subject: Option<Subject>,
}

/// What became of a pushed event.
#[derive(Debug)]
pub(crate) enum PushOutcome {
    /// It waits.
    Queued,
    /// It waits, and so many older ones gave way. Of those that are missed, this was the last.
    Dropped { events: u64, missed: Option<Box<QueuedFrame>> },
    /// It does not fit, and the policy says that the subscriber goes.
    Full,
}

/// A queue bounded in bytes. One in which no event waits takes any event.
#[derive(Debug)]
pub(crate) struct EventQueue {
    waiting: SmallQueue<QueuedFrame>,
    // Invariant: the sum of the lengths of the events in `waiting`. What the stream itself says is
    // not counted: it is short, and it is never dropped.
    bytes: usize,
    // Invariant: how many in `waiting` are no events.
    said: u32,
    max_bytes: usize,
    when_full: WhenFull,
}

impl EventQueue {
    pub(crate) fn new(max_bytes: usize, when_full: WhenFull) -> Self {
        Self { waiting: SmallQueue::default(), bytes: 0, said: 0, max_bytes, when_full }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes an event, as the policy allows.
    #[inline]
    pub(crate) fn push(&mut self, event: QueuedFrame) -> PushOutcome {
        let pushed = match self.when_full {
            _ if self.fits(&event) => PushOutcome::Queued,
            WhenFull::Disconnect => return PushOutcome::Full,
            WhenFull::DropOldest => {
                self.drop_oldest(self.max_bytes.saturating_sub(event.frame.len()))
            }
            WhenFull::Latest => self.keep_newest(&event),
        };
        self.append(event);
        pushed
    }

    /// Takes what the stream itself has to say.
    pub(crate) fn say(&mut self, frame: Frame, now: Instant) {
        self.said += 1;
        self.waiting.push(QueuedFrame { frame, received: now, number: 0, subject: None });
    }

    /// How much of what the stream itself has to say waits.
    pub(crate) fn said(&self) -> usize {
        self.said as usize
    }

    /// What is to be written next.
    pub(crate) fn front(&self) -> Option<&QueuedFrame> {
        self.waiting.first()
    }

    pub(crate) fn pop(&mut self) -> Option<QueuedFrame> {
        let next = self.waiting.pop()?;
        self.bytes -= next.event_bytes();
        self.said -= u32::from(!next.is_event());
        Some(next)
    }

    /// Forgets everything; answers how many events that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let events = self.waiting.iter().filter(|queued| queued.is_event()).count();
        *self = Self::new(self.max_bytes, self.when_full);
        events as u64
    }

    fn fits(&self, event: &QueuedFrame) -> bool {
        self.bytes == 0 || self.bytes + event.frame.len() <= self.max_bytes
    }

    /// Takes an event that is known to fit.
    pub(crate) fn append(&mut self, event: QueuedFrame) {
        self.bytes += event.event_bytes();
        self.waiting.push(event);
    }

    /// The oldest give way until no more than `most` bytes of events wait, or none.
    fn drop_oldest(&mut self, most: usize) -> PushOutcome {
        let (mut events, mut missed) = (0, None);
        while self.bytes > most
            && let Some(dropped) = self.waiting.take_first(QueuedFrame::is_event)
        {
            self.bytes -= dropped.event_bytes();
            events += 1;
            missed = Some(dropped);
        }
        PushOutcome::Dropped { events, missed: missed.map(Box::new) }
    }

    /// Events give way that have a newer one of their subject behind them, and nobody misses them. If
    /// that makes no room, the oldest do, and are missed; then a good part of the queue is free, so
    /// that the next event does not have to look through it again.
    fn keep_newest(&mut self, event: &QueuedFrame) -> PushOutcome {
        let mut newer: FxHashSet<Option<Subject>> = std::iter::once(event.subject).collect();
        let before = self.waiting.iter().count();
        let mut kept: Vec<QueuedFrame> = std::mem::take(&mut self.waiting).into_iter().collect();
        kept.reverse();
        kept.retain(|queued| !queued.is_event() || newer.insert(queued.subject));
        let replaced = (before - kept.len()) as u64;
        self.bytes = kept.iter().map(QueuedFrame::event_bytes).sum();
        self.waiting = kept.into_iter().rev().collect();
        let most = self.max_bytes - self.max_bytes / 8;
        match self.drop_oldest(most.saturating_sub(event.frame.len())) {
            PushOutcome::Dropped { events, missed } => {
                PushOutcome::Dropped { events: events + replaced, missed }
            }
            other => other,
        }
    }
}

impl QueuedFrame {
    pub(crate) fn is_event(&self) -> bool {
        self.subject.is_some()
    }

    fn event_bytes(&self) -> usize {
        if self.is_event() { self.frame.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::{EventQueue, PushOutcome, QueuedFrame};
    use crate::hub::WhenFull;
    use crate::hub::subject::Subject;
    use crate::sse::encode;

    fn event(number: u64, bytes: usize) -> QueuedFrame {
        event_of(0, number, bytes)
    }

    fn event_of(channel: u32, number: u64, bytes: usize) -> QueuedFrame {
        let frame = crate::hub::tests::frame(bytes);
        QueuedFrame { frame, number, received: Instant::now(), subject: Some(Subject::of(channel)) }
    }

    fn push(queue: &mut EventQueue, event: QueuedFrame) -> String {
        match queue.push(event) {
            PushOutcome::Queued => "queued".into(),
            PushOutcome::Full => "full".into(),
            PushOutcome::Dropped { events, missed } => {
                format!("{events} dropped, {} missed", missed.map_or(0, |missed| missed.number))
            }
        }
    }

    fn numbers(queue: &mut EventQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop())
            .filter(QueuedFrame::is_event)
            .map(|queued| queued.number)
            .collect()
    }

    #[test]
    fn what_waits_takes_as_little_as_it_can() {
        assert_eq!(size_of::<QueuedFrame>(), 40);
    }

    #[test]
    fn an_empty_queue_takes_any_event() {
        for when_full in [WhenFull::Disconnect, WhenFull::DropOldest, WhenFull::Latest] {
            let mut queue = EventQueue::new(10, when_full);
            assert_eq!(push(&mut queue, event(1, 1000)), "queued");
            assert_eq!(numbers(&mut queue), [1]);
        }
    }

    #[test]
    fn a_full_queue_refuses_when_the_subscriber_is_to_go() {
        let mut queue = EventQueue::new(10, WhenFull::Disconnect);
        assert_eq!(push(&mut queue, event(1, 6)), "queued");
        assert_eq!(push(&mut queue, event(2, 4)), "queued");
        assert_eq!(push(&mut queue, event(3, 1)), "full");
        assert_eq!(numbers(&mut queue), [1, 2]);
    }

    #[test]
    fn the_oldest_give_way() {
        let mut queue = EventQueue::new(10, WhenFull::DropOldest);
        for number in 1..=5 {
            assert_eq!(push(&mut queue, event(number, 2)), "queued");
        }
        assert_eq!(push(&mut queue, event(6, 3)), "2 dropped, 2 missed");
        assert_eq!(numbers(&mut queue), [3, 4, 5, 6]);
    }

    #[test]
    fn only_the_newest_is_kept_of_one_channel() {
        let mut queue = EventQueue::new(10, WhenFull::Latest);
        for number in 1..=5 {
            assert_eq!(push(&mut queue, event(number, 2)), "queued");
        }
        assert_eq!(push(&mut queue, event(6, 3)), "5 dropped, 0 missed");
        assert_eq!(numbers(&mut queue), [6]);
    }

    #[test]
    fn the_newest_of_each_channel_is_kept() {
        let mut queue = EventQueue::new(1000, WhenFull::Latest);
        let (door, temperature) = (1, 2);
        for number in 1..=400 {
            let channel = if number == 200 { door } else { temperature };
            push(&mut queue, event_of(channel, number, 10));
        }
        let kept = numbers(&mut queue);
        assert!(kept.contains(&200) && kept.contains(&400), "{kept:?}");
    }

    #[test]
    fn the_newest_of_more_channels_than_fit_are_missed() {
        let mut queue = EventQueue::new(80, WhenFull::Latest);
        for channel in 0..8 {
            assert_eq!(push(&mut queue, event_of(channel, 1 + u64::from(channel), 10)), "queued");
        }
        assert_eq!(push(&mut queue, event_of(3, 9, 10)), "2 dropped, 1 missed");
        assert_eq!(push(&mut queue, event_of(3, 10, 10)), "queued");
        assert_eq!(push(&mut queue, event_of(3, 11, 10)), "2 dropped, 0 missed");
        assert_eq!(numbers(&mut queue), [2, 3, 5, 6, 7, 8, 11]);
        // One that is larger than everything.
        push(&mut queue, event_of(1, 12, 10));
        assert_eq!(push(&mut queue, event_of(2, 13, 500)), "1 dropped, 12 missed");
        assert_eq!(numbers(&mut queue), [13]);
    }

    #[test]
    fn what_the_stream_says_is_never_dropped() {
        for when_full in [WhenFull::DropOldest, WhenFull::Latest] {
            let mut queue = EventQueue::new(10, when_full);
            queue.say(encode::comment(), Instant::now());
            assert_eq!(push(&mut queue, event(1, 10)), "queued");
            let missed = if when_full == WhenFull::Latest { 0 } else { 1 };
            let expected = format!("1 dropped, {missed} missed");
            assert_eq!(push(&mut queue, event(2, 10)), expected);
            assert_eq!(queue.pop().expect("it waits").frame, encode::comment());
            assert_eq!(numbers(&mut queue), [2]);
        }
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_the_count_is_right(
            sizes in proptest::collection::vec(1usize..40, 0..200),
            policy in 0..3,
            pops in proptest::collection::vec(any::<bool>(), 200),
        ) {
            let when_full = [WhenFull::Disconnect, WhenFull::DropOldest, WhenFull::Latest][policy as usize];
            let mut queue = EventQueue::new(50, when_full);
            for (number, size) in sizes.into_iter().enumerate() {
                let channel = u32::try_from(number % 3).expect("small");
                let _pushed = queue.push(event_of(channel, number as u64, size));
                if pops[number] {
                    queue.pop();
                }
                prop_assert!(queue.bytes() <= 50);
                prop_assert_eq!(queue.bytes(), queue.waiting.iter().map(|q| q.frame.len()).sum::<usize>());
            }
        }
    }
}
