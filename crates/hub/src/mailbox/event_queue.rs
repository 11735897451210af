//! The frames that wait for one subscriber, within a bound.
//!
//! Pure: it neither wakes nor writes. It returns what happened to an event, and its owner decides what
//! follows from that.

use rustc_hash::FxHashSet;
use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use super::small_queue::SmallQueue;
use crate::settings::WhenFull;
use crate::subject::Subject;

/// A frame on its way to a socket.
#[derive(Clone, Debug)]
pub(crate) struct QueuedFrame {
    pub(crate) frame: Frame,
    /// When it was received from the source.
    pub(crate) received: Instant,
    /// Its number in the hub; 0 if it has none.
    pub(crate) number: u64,
    /// `None` for a control frame: `retry`, `ready`, a comment, a gap.
    pub(crate) subject: Option<Subject>,
}

/// What happened to a pushed event.
#[derive(Debug)]
pub(super) enum PushOutcome {
    /// It is queued.
    Queued,
    /// It is queued, and `events` older ones were dropped for it. `missed` is the newest of those that
    /// were not replaced by a newer event of their subject.
    Dropped { events: u64, missed: Option<Box<QueuedFrame>> },
    /// It does not fit, and the policy is to close the stream.
    Full,
}

/// A queue with a bound in bytes. While no event is queued it takes any event.
#[derive(Debug)]
pub(crate) struct EventQueue {
    frames: SmallQueue<QueuedFrame>,
    // Invariant: the sum of the lengths of the events in `frames`. Control frames do not count: they
    // are short, and never dropped.
    bytes: usize,
    // Invariant: the number of control frames in `frames`.
    controls: u32,
    // Whether a frame was ever popped.
    has_begun: bool,
    when_full: WhenFull,
    max_bytes: usize,
}

impl EventQueue {
    pub(super) fn new(max_bytes: usize, when_full: WhenFull) -> Self {
        let frames = SmallQueue::default();
        Self { frames, bytes: 0, controls: 0, has_begun: false, when_full, max_bytes }
    }

    /// Bytes of the queued events.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queued control frames.
    pub(super) fn controls(&self) -> usize {
        self.controls as usize
    }

    /// Whether the first frame of the stream was popped.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Queues an event, as the policy allows.
    #[inline]
    pub(super) fn push(&mut self, event: QueuedFrame) -> PushOutcome {
        let outcome = match self.when_full {
            _ if self.fits(&event) => PushOutcome::Queued,
            WhenFull::Disconnect => return PushOutcome::Full,
            WhenFull::DropOldest => {
                self.drop_oldest(self.max_bytes.saturating_sub(event.frame.len()))
            }
            WhenFull::Latest => self.keep_newest(&event),
        };
        self.append(event);
        outcome
    }

    /// Queues an event that is known to fit.
    pub(super) fn append(&mut self, event: QueuedFrame) {
        self.bytes += event.event_bytes();
        self.frames.push(event);
    }

    /// Queues a control frame.
    pub(super) fn push_control(&mut self, frame: Frame, now: Instant) {
        self.controls += 1;
        self.frames.push(QueuedFrame { frame, received: now, number: 0, subject: None });
    }

    /// The frame that is popped next.
    pub(crate) fn first(&self) -> Option<&QueuedFrame> {
        self.frames.first()
    }

    pub(crate) fn pop(&mut self) -> Option<QueuedFrame> {
        let next = self.frames.pop()?;
        self.bytes -= next.event_bytes();
        self.controls -= u32::from(!next.is_event());
        self.has_begun = true;
        Some(next)
    }

    /// Drops every frame; returns how many events that were.
    pub(super) fn clear(&mut self) -> u64 {
        let events = self.frames.iter().filter(|queued| queued.is_event()).count();
        *self = Self { has_begun: self.has_begun, ..Self::new(self.max_bytes, self.when_full) };
        events as u64
    }

    fn fits(&self, event: &QueuedFrame) -> bool {
        self.bytes == 0 || self.bytes + event.frame.len() <= self.max_bytes
    }

    /// Drops the oldest events until at most `max_bytes` are queued.
    fn drop_oldest(&mut self, max_bytes: usize) -> PushOutcome {
        let (mut events, mut missed) = (0, None);
        while self.bytes > max_bytes
            && let Some(dropped) = self.frames.take_first(QueuedFrame::is_event)
        {
            self.bytes -= dropped.event_bytes();
            events += 1;
            missed = Some(dropped);
        }
        PushOutcome::Dropped { events, missed: missed.map(Box::new) }
    }

    /// Drops the events that are replaced by a newer one of their subject: the client does not miss them. If
    /// that does not free an eighth of the queue, drops the oldest, which the client misses, until so much is
    /// free. So the next event does not have to search the queue again.
    fn keep_newest(&mut self, event: &QueuedFrame) -> PushOutcome {
        let mut newer: FxHashSet<Option<Subject>> = std::iter::once(event.subject).collect();
        let before = self.frames.iter().count();
        let mut kept: Vec<QueuedFrame> = std::mem::take(&mut self.frames).into_iter().collect();
        kept.reverse();
        kept.retain(|queued| !queued.is_event() || newer.insert(queued.subject));
        let replaced = (before - kept.len()) as u64;
        self.bytes = kept.iter().map(QueuedFrame::event_bytes).sum();
        self.frames = kept.into_iter().rev().collect();
        let max_bytes = self.max_bytes - self.max_bytes / 8;
        match self.drop_oldest(max_bytes.saturating_sub(event.frame.len())) {
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
    use ssegate_sse::encode;
    use tokio::time::Instant;

    use super::{EventQueue, PushOutcome, QueuedFrame};
    use crate::WhenFull;
    use crate::subject::Subject;

    fn event(number: u64, bytes: usize) -> QueuedFrame {
        event_of(0, number, bytes)
    }

    fn event_of(channel: u32, number: u64, bytes: usize) -> QueuedFrame {
        let frame = crate::tests::frame(bytes);
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
    fn a_queued_frame_takes_40_bytes() {
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
    fn a_full_queue_refuses_events_where_the_policy_is_to_disconnect() {
        let mut queue = EventQueue::new(10, WhenFull::Disconnect);
        assert_eq!(push(&mut queue, event(1, 6)), "queued");
        assert_eq!(push(&mut queue, event(2, 4)), "queued");
        assert_eq!(push(&mut queue, event(3, 1)), "full");
        assert_eq!(numbers(&mut queue), [1, 2]);
    }

    #[test]
    fn the_oldest_events_are_dropped() {
        let mut queue = EventQueue::new(10, WhenFull::DropOldest);
        for number in 1..=5 {
            assert_eq!(push(&mut queue, event(number, 2)), "queued");
        }
        assert_eq!(push(&mut queue, event(6, 3)), "2 dropped, 2 missed");
        assert_eq!(numbers(&mut queue), [3, 4, 5, 6]);
    }

    #[test]
    fn only_the_newest_event_of_one_channel_is_kept() {
        let mut queue = EventQueue::new(10, WhenFull::Latest);
        for number in 1..=5 {
            assert_eq!(push(&mut queue, event(number, 2)), "queued");
        }
        assert_eq!(push(&mut queue, event(6, 3)), "5 dropped, 0 missed");
        assert_eq!(numbers(&mut queue), [6]);
    }

    #[test]
    fn the_newest_event_of_each_channel_is_kept() {
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
    fn where_the_newest_of_all_channels_do_not_fit_the_oldest_are_missed() {
        let mut queue = EventQueue::new(80, WhenFull::Latest);
        for channel in 0..8 {
            assert_eq!(push(&mut queue, event_of(channel, 1 + u64::from(channel), 10)), "queued");
        }
        assert_eq!(push(&mut queue, event_of(3, 9, 10)), "2 dropped, 1 missed");
        assert_eq!(push(&mut queue, event_of(3, 10, 10)), "queued");
        assert_eq!(push(&mut queue, event_of(3, 11, 10)), "2 dropped, 0 missed");
        assert_eq!(numbers(&mut queue), [2, 3, 5, 6, 7, 8, 11]);
        // An event larger than the queue.
        push(&mut queue, event_of(1, 12, 10));
        assert_eq!(push(&mut queue, event_of(2, 13, 500)), "1 dropped, 12 missed");
        assert_eq!(numbers(&mut queue), [13]);
    }

    #[test]
    fn control_frames_are_never_dropped() {
        for when_full in [WhenFull::DropOldest, WhenFull::Latest] {
            let mut queue = EventQueue::new(10, when_full);
            queue.push_control(encode::comment(), Instant::now());
            assert_eq!(push(&mut queue, event(1, 10)), "queued");
            let missed = if when_full == WhenFull::Latest { 0 } else { 1 };
            let expected = format!("1 dropped, {missed} missed");
            assert_eq!(push(&mut queue, event(2, 10)), expected);
            assert_eq!(queue.pop().expect("it is queued").frame, encode::comment());
            assert_eq!(numbers(&mut queue), [2]);
        }
    }

    proptest! {
        #[test]
        fn bytes_are_within_the_bound_and_counted(
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
                prop_assert_eq!(queue.bytes(), queue.frames.iter().map(|q| q.frame.len()).sum::<usize>());
            }
        }
    }
}
