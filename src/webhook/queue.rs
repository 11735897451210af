//! What waits to be told: for each URL in the order in which it came, and of one channel never two at the same time.
//!
//! Pure. A server that does not respond fills its own queue, and no other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::call::WebhookCall;

/// Calls that wait for one URL, at most. What has waited for longest makes room: what is told then is out of date.
pub(super) const MAX_WAITING: usize = 1000;

/// Calls to one URL at the same time, those included that are tried again.
pub(super) const MAX_RUNNING: usize = 8;

/// What waits, and what is being told.
#[derive(Debug, Default)]
pub(super) struct WebhookQueue {
    // By URL, with those alone that have something.
    urls: HashMap<String, UrlQueue>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct UrlQueue {
    waiting: VecDeque<WebhookCall>,
    // The channels that are being told of.
    running: HashSet<Arc<str>>,
}

impl WebhookQueue {
    /// Adds a call. Returns the one that is given up for it.
    pub(super) fn push(&mut self, call: WebhookCall) -> Option<WebhookCall> {
        let queue = self.urls.entry(url(&call)).or_default();
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

    /// The next call to begin with for the URL of this one; `None`: all have to wait.
    pub(super) fn start(&mut self, url: &str) -> Option<WebhookCall> {
        let queue = self.urls.get_mut(url)?;
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

    /// A call is over.
    pub(super) fn finish(&mut self, call: &WebhookCall) {
        let url = url(call);
        if let Some(queue) = self.urls.get_mut(&url) {
            queue.running.remove(&call.channel);
            if queue.running.is_empty() && queue.waiting.is_empty() {
                self.urls.remove(&url);
            }
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

/// The URL of a call, by which its queue is known.
pub(super) fn url(call: &WebhookCall) -> String {
    call.webhook.url.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{MAX_RUNNING, MAX_WAITING, WebhookQueue};
    use crate::grip::signature::Secret;
    use crate::webhook::{Webhook, WebhookCall, WebhookEvent};

    fn call(url: &str, channel: &str, time_ms: u64) -> WebhookCall {
        let key = Secret::new(vec![b'k'; 32]).expect("long enough");
        let webhook = Arc::new(Webhook { url: url.parse().expect("a URL"), key });
        WebhookCall::new(&webhook, WebhookEvent::Occupied, (channel, time_ms))
    }

    const ONE: &str = "http://one.example/";
    const TWO: &str = "http://two.example/";

    #[test]
    fn a_channel_is_told_in_order_and_others_beside_it() {
        let mut queue = WebhookQueue::default();
        for (url, channel, time) in
            [(ONE, "a", 1), (ONE, "a", 2), (ONE, "b", 3), (TWO, "a", 4), (ONE, "a", 5)]
        {
            assert!(queue.push(call(url, channel, time)).is_none());
        }
        let mut start = |queue: &mut WebhookQueue, url| queue.start(url);
        let first = start(&mut queue, ONE).expect("one");
        let beside = start(&mut queue, ONE).expect("another channel");
        let other = start(&mut queue, TWO).expect("another URL");
        assert_eq!([first.time_ms, beside.time_ms, other.time_ms], [1, 3, 4]);
        assert!(start(&mut queue, ONE).is_none() && start(&mut queue, TWO).is_none());
        queue.finish(&first);
        let second = start(&mut queue, ONE).expect("the next");
        assert_eq!((second.time_ms, queue.waiting()), (2, 1));
        queue.finish(&second);
        let third = start(&mut queue, ONE).expect("the last");
        assert_eq!((third.time_ms, queue.waiting()), (5, 0));
        for call in [&third, &beside, &other] {
            queue.finish(call);
        }
        assert!(queue.urls.is_empty());
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
