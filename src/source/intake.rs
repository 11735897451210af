//! From a source's messages to the hub's events.
//!
//! Knows which messages belong together: Redis sends a message once for a subscription to its
//! channel and once for each pattern that matches, in this order, and all of them are one event.

use bytes::Bytes;
use tokio::time::Instant;

use super::decode;
use crate::event::{ChannelName, Payload};
use crate::hub::Hub;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;

/// Messages that are handed to the shards together, at most.
const MAX_BATCH: u64 = 512;

/// The way into the hub, for one source.
#[derive(Debug)]
pub(crate) struct Intake {
    hub: Hub,
    metrics: Metrics,
    // The turn that is running: when its messages were received, and how many.
    received: Option<Instant>,
    messages: u64,
    newest: Newest,
    skipped: LogLimit,
}

/// The newest message, as far as it is needed to know the same message again.
#[derive(Debug, Default)]
struct Newest {
    channel: Vec<u8>,
    payload: Option<Payload>,
    patterns: Vec<Vec<u8>>,
}

impl Intake {
    pub(crate) fn new(hub: Hub, metrics: Metrics) -> Self {
        let (newest, skipped) = (Newest::default(), LogLimit::new());
        Self { hub, metrics, received: None, messages: 0, newest, skipped }
    }

    /// Takes a message that was heard on `channel`, by subscription or through `pattern`.
    pub(crate) fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        if !self.newest.is_heard_again(pattern, channel, payload) {
            self.newest.set(pattern, channel, payload);
            self.hub.begin_message(channel);
        }
        self.messages += 1;
        self.deliver(pattern, channel, payload);
        if self.messages >= MAX_BATCH {
            self.flush();
        }
    }

    /// The source has heard something else: no further copy of the newest message follows.
    pub(crate) fn end_message(&mut self) {
        self.newest.payload = None;
        self.hub.end_message();
    }

    /// The source has nothing more at hand: what it took goes to the shards.
    pub(crate) fn flush(&mut self) {
        if self.messages > 0 {
            self.metrics.source_messages(self.messages);
            self.messages = 0;
            self.received = None;
            let may_come_again = self.hub.follows_patterns();
            self.newest.outlive_the_buffer(may_come_again);
            if !may_come_again {
                self.hub.end_message();
            }
            self.hub.flush();
        }
    }

    fn deliver(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        let received = *self.received.get_or_insert_with(Instant::now);
        // Names that are no text were never asked for.
        let (Ok(heard_on), Ok(channel)) =
            (str::from_utf8(pattern.unwrap_or(channel)), str::from_utf8(channel))
        else {
            return;
        };
        // A pattern of the operator's may match what Redis says of its own keys.
        if pattern.is_some() && ChannelName::RESERVED.iter().any(|r| channel.starts_with(r)) {
            return;
        }
        match payload {
            Payload::Whole(payload) => {
                let metrics = &self.metrics;
                self.hub.publish(pattern.is_some(), heard_on, received, |format| {
                    let decoded = decode::decode(format, payload);
                    if decoded.is_malformed {
                        metrics.event_malformed();
                    }
                    Some(decoded.event)
                });
            }
            Payload::TooLarge(bytes) => {
                if let Some(held_back) = self.skipped.pass("too_large", received) {
                    const MESSAGE: &str = "a message over max_event_bytes was skipped";
                    tracing::warn!(channel, bytes, held_back, "{MESSAGE}");
                }
                self.metrics.event_too_large();
                self.hub.skip(pattern.is_some(), heard_on);
            }
        }
    }
}

impl Newest {
    fn is_heard_again(
        &mut self,
        pattern: Option<&[u8]>,
        channel: &[u8],
        payload: &Payload,
    ) -> bool {
        let Some(pattern) = pattern else {
            return false;
        };
        let is_same = self.channel == channel
            && self.payload.as_ref() == Some(payload)
            && !self.patterns.iter().any(|known| known == pattern);
        if is_same {
            self.patterns.push(pattern.to_vec());
        }
        is_same
    }

    /// The copies of one message may come in two reads; but what was read is not held on to.
    fn outlive_the_buffer(&mut self, may_come_again: bool) {
        self.payload = match self.payload.take() {
            Some(Payload::Whole(bytes)) if may_come_again => {
                Some(Payload::Whole(Bytes::copy_from_slice(&bytes)))
            }
            Some(Payload::TooLarge(bytes)) => Some(Payload::TooLarge(bytes)),
            _ => None,
        };
    }

    fn set(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        self.channel.clear();
        self.channel.extend_from_slice(channel);
        self.payload = Some(payload.clone());
        self.patterns.clear();
        self.patterns.extend(pattern.map(<[u8]>::to_vec));
    }
}
