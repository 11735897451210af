//! The webhooks that wait: each lane is in order, and sends only one at a time about one channel.
//!
//! Pure. A server that does not respond fills its own lane, and no other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::call::WebhookCall;

/// Calls that wait in one lane, at most. The oldest makes room, because it is the most out of date.
pub(super) const MAX_WAITING: usize = 1000;

/// Calls of one lane that are sent at the same time, including those that wait for a retry.
pub(super) const MAX_RUNNING: usize = 8;

/// The calls that wait, and those that are being sent.
#[derive(Debug, Default)]
pub(super) struct WebhookQueue {
    // Only the lanes with calls.
    lanes: HashMap<Arc<str>, WebhookLane>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct WebhookLane {
    waiting: VecDeque<WebhookCall>,
    // The channels with a call that is being sent.
    running: HashSet<Arc<str>>,
}

impl WebhookQueue {
    /// Adds a call. Returns the one that is given up to make room.
    pub(super) fn push(&mut self, call: WebhookCall) -> Option<WebhookCall> {
        let queue = self.lanes.entry(Arc::clone(&call.lane)).or_default();
        let given_up = match queue.waiting.len() >= MAX_WAITING {
            true => queue.waiting.pop_front(),
            false => {
                self.waiting += 1;
                None
            }
        };
        queue.waiting.push_back(call);
        given_up
    }

    /// The next call to send in this lane; `None`: all have to wait.
    pub(super) fn start(&mut self, lane: &str) -> Option<WebhookCall> {
        let queue = self.lanes.get_mut(lane)?;
        if queue.running.len() >= MAX_RUNNING {
            return None;
        }
        let is_free = |call: &WebhookCall| !queue.running.contains(&call.channel);
        let place = queue.waiting.iter().position(is_free)?;
        let call = queue.waiting.remove(place)?;
        queue.running.insert(Arc::clone(&call.channel));
        self.waiting -= 1;
        Some(call)
    }

    /// Records that a call has been sent or given up.
    pub(super) fn finish(&mut self, call: &WebhookCall) {
        if let Some(queue) = self.lanes.get_mut(&call.lane) {
            queue.running.remove(&call.channel);
            if queue.running.is_empty() && queue.waiting.is_empty() {
                self.lanes.remove(&call.lane);
            }
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_RUNNING, MAX_WAITING, WebhookQueue};
    use crate::webhook::call::test_call as call;

    const ONE: &str = "one";
    const TWO: &str = "two";

    #[test]
    fn a_channel_is_told_in_order_and_others_beside_it() {
        let mut queue = WebhookQueue::default();
        for (lane, channel, time) in
            [(ONE, "a", 1), (ONE, "a", 2), (ONE, "b", 3), (TWO, "a", 4), (ONE, "a", 5)]
        {
            assert!(queue.push(call(lane, channel, time)).is_none());
        }
        let first = queue.start(ONE).expect("one");
        let beside = queue.start(ONE).expect("another channel");
        let other = queue.start(TWO).expect("another lane");
        assert_eq!([first.time_ms, beside.time_ms, other.time_ms], [1, 3, 4]);
        assert!(queue.start(ONE).is_none() && queue.start(TWO).is_none());
        queue.finish(&first);
        let second = queue.start(ONE).expect("the next");
        assert_eq!((second.time_ms, queue.waiting()), (2, 1));
        queue.finish(&second);
        let third = queue.start(ONE).expect("the last");
        assert_eq!((third.time_ms, queue.waiting()), (5, 0));
        for call in [&third, &beside, &other] {
            queue.finish(call);
        }
        assert!(queue.lanes.is_empty());
    }

    #[test]
    fn a_server_that_does_not_respond_holds_what_is_for_it_within_bounds() {
        let mut queue = WebhookQueue::default();
        for number in 0..MAX_RUNNING {
            queue.push(call(ONE, &number.to_string(), 0));
            assert!(queue.start(ONE).is_some());
        }
        for number in 0..=MAX_WAITING as u64 {
            let given_up = queue.push(call(ONE, "news", number));
            let expected = (number == MAX_WAITING as u64).then_some(0);
            assert_eq!(given_up.map(|call| call.time_ms), expected, "the oldest");
        }
        assert_eq!(queue.waiting(), MAX_WAITING);
        assert!(queue.start(ONE).is_none());
        queue.push(call(TWO, "news", 7));
        assert_eq!(queue.start(TWO).map(|call| call.time_ms), Some(7));
    }
}
