//! What waits for one subscriber, within a bound.
//!
//! Pure: it neither wakes nor writes. Whoever pushes is told what became of the event, and decides
//! what follows from it.

use tokio::time::Instant;

use super::WhenFull;
use super::line::Line;
use crate::sse::frame::Frame;

/// A frame on its way to a socket.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    /// The text of it.
    pub(crate) frame: Frame,
    /// Its number in the hub; `None` for what is not an event (`retry`, `ready`, comments, gaps).
    pub(crate) number: Option<u64>,
    /// When it was received from the source.
    pub(crate) received: Instant,
}

/// What became of a pushed event.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits.
    Queued,
    /// It waits, and so many older ones gave way; this was the last of them.
    Dropped { events: u64, last: Option<Box<Queued>> },
    /// It does not fit, and the policy says that the subscriber goes.
    Full,
}

/// A queue bounded in bytes. One in which no event waits takes any event.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Line<Queued>,
    // Invariant: the sum of the lengths of the events in `waiting`. What the stream itself says is
    // not counted: it is short, and it is never dropped.
    bytes: usize,
    // Invariant: how many in `waiting` are no events.
    said: u32,
    max_bytes: usize,
    when_full: WhenFull,
}

impl Queue {
    pub(crate) fn new(max_bytes: usize, when_full: WhenFull) -> Self {
        Self { waiting: Line::default(), bytes: 0, said: 0, max_bytes, when_full }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes an event, as the policy allows.
    #[inline]
    pub(crate) fn push(&mut self, event: Queued) -> Pushed {
        let pushed = match self.when_full {
            _ if self.fits(&event) => Pushed::Queued,
            WhenFull::Disconnect => return Pushed::Full,
            WhenFull::DropOldest => self.drop_until_it_fits(&event),
            WhenFull::Latest => self.drop_all_events(),
        };
        self.append(event);
        pushed
    }

    /// Takes what the stream itself has to say.
    pub(crate) fn say(&mut self, frame: Frame, now: Instant) {
        self.said += 1;
        self.waiting.push(Queued { frame, number: None, received: now });
    }

    /// How much of what the stream itself has to say waits.
    pub(crate) fn said(&self) -> usize {
        self.said as usize
    }

    /// What is to be written next.
    pub(crate) fn front(&self) -> Option<&Queued> {
        self.waiting.first()
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let next = self.waiting.pop()?;
        self.bytes -= next.event_bytes();
        self.said -= u32::from(next.number.is_none());
        Some(next)
    }

    /// Forgets everything; answers how many events that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let events = self.waiting.iter().filter(|queued| queued.number.is_some()).count();
        *self = Self::new(self.max_bytes, self.when_full);
        events as u64
    }

    fn fits(&self, event: &Queued) -> bool {
        self.bytes == 0 || self.bytes + event.frame.len() <= self.max_bytes
    }

    /// Takes an event that is known to fit.
    pub(crate) fn append(&mut self, event: Queued) {
        self.bytes += event.event_bytes();
        self.waiting.push(event);
    }

    fn drop_until_it_fits(&mut self, event: &Queued) -> Pushed {
        let (mut events, mut last) = (0, None);
        while !self.fits(event) {
            let dropped = self.waiting.take_first(|queued| queued.number.is_some());
            let dropped = dropped.expect("an event waits, or the new one would fit");
            self.bytes -= dropped.event_bytes();
            events += 1;
            last = Some(dropped);
        }
        Pushed::Dropped { events, last: last.map(Box::new) }
    }

    fn drop_all_events(&mut self) -> Pushed {
        let (said, events): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|q| q.number.is_none());
        self.waiting = said.into_iter().collect();
        self.bytes = 0;
        let (count, last) = (events.len() as u64, events.into_iter().next_back());
        Pushed::Dropped { events: count, last: last.map(Box::new) }
    }
}

impl Queued {
    fn event_bytes(&self) -> usize {
        if self.number.is_some() { self.frame.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::{Pushed, Queue, Queued};
    use crate::hub::WhenFull;
    use crate::sse::encode;

    fn event(number: u64, bytes: usize) -> Queued {
        let frame = crate::hub::tests::frame(bytes);
        Queued { frame, number: Some(number), received: Instant::now() }
    }

    fn push(queue: &mut Queue, event: Queued) -> String {
        match queue.push(event) {
            Pushed::Queued => "queued".into(),
            Pushed::Full => "full".into(),
            Pushed::Dropped { events, last } => {
                format!("{events} dropped up to {}", last.and_then(|last| last.number).unwrap_or(0))
            }
        }
    }

    fn numbers(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).filter_map(|queued| queued.number).collect()
    }

    #[test]
    fn an_empty_queue_takes_any_event() {
        for when_full in [WhenFull::Disconnect, WhenFull::DropOldest, WhenFull::Latest] {
            let mut queue = Queue::new(10, when_full);
            assert_eq!(push(&mut queue, event(1, 1000)), "queued");
            assert_eq!(numbers(&mut queue), [1]);
        }
    }

    #[test]
    fn a_full_queue_refuses_when_the_subscriber_is_to_go() {
        let mut queue = Queue::new(10, WhenFull::Disconnect);
        assert_eq!(push(&mut queue, event(1, 6)), "queued");
        assert_eq!(push(&mut queue, event(2, 4)), "queued");
        assert_eq!(push(&mut queue, event(3, 1)), "full");
        assert_eq!(numbers(&mut queue), [1, 2]);
    }

    #[test]
    fn the_oldest_give_way() {
        let mut queue = Queue::new(10, WhenFull::DropOldest);
        for number in 1..=5 {
            assert_eq!(push(&mut queue, event(number, 2)), "queued");
        }
        assert_eq!(push(&mut queue, event(6, 3)), "2 dropped up to 2");
        assert_eq!(numbers(&mut queue), [3, 4, 5, 6]);
    }

    #[test]
    fn only_the_newest_is_kept() {
        let mut queue = Queue::new(10, WhenFull::Latest);
        for number in 1..=5 {
            assert_eq!(push(&mut queue, event(number, 2)), "queued");
        }
        assert_eq!(push(&mut queue, event(6, 3)), "5 dropped up to 5");
        assert_eq!(numbers(&mut queue), [6]);
    }

    #[test]
    fn what_the_stream_says_is_never_dropped() {
        for when_full in [WhenFull::DropOldest, WhenFull::Latest] {
            let mut queue = Queue::new(10, when_full);
            queue.say(encode::comment(), Instant::now());
            assert_eq!(push(&mut queue, event(1, 10)), "queued");
            assert_eq!(push(&mut queue, event(2, 10)), "1 dropped up to 1");
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
            let mut queue = Queue::new(50, when_full);
            for (number, size) in sizes.into_iter().enumerate() {
                let _pushed = queue.push(event(number as u64, size));
                if pops[number] {
                    queue.pop();
                }
                prop_assert!(queue.bytes() <= 50);
                prop_assert_eq!(queue.bytes(), queue.waiting.iter().map(|q| q.frame.len()).sum::<usize>());
            }
        }
    }
}
