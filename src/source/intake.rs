//! Delivers the messages of a source to the hub.
//!
//! Recognizes copies: Redis sends a message once for a subscription to its channel and once for
//! each pattern that matches, in this order, and all of them are one event.

use bytes::Bytes;
use ssegate_hub::{ChannelName, Hub, OrderId};
use ssegate_resp::Payload;
use tokio::time::Instant;

use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::route::OWN_NAMES;

/// Messages flushed to the shards as one batch, at most.
const MAX_BATCH: u64 = 512;

/// Delivers the messages of one source to the hub.
#[derive(Debug)]
pub(crate) struct Intake {
    hub: Hub,
    metrics: Metrics,
    // The current batch: when its first message was received, and its size.
    received: Option<Instant>,
    messages: u64,
    last: LastMessage,
    skipped: LogLimit,
}

/// The last message, by which its copies are recognized.
#[derive(Debug, Default)]
struct LastMessage {
    channel: Vec<u8>,
    payload: Option<Payload>,
    patterns: Vec<Vec<u8>>,
}

impl Intake {
    /// Delivers to `hub`.
    pub(crate) fn new(hub: Hub, metrics: Metrics) -> Self {
        let (last, skipped) = (LastMessage::default(), LogLimit::new());
        Self { hub, metrics, received: None, messages: 0, last, skipped }
    }

    /// Delivers a message received on `channel`, through a subscription to it or through `pattern`.
    pub(crate) fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        // Messages between gateways, such as revocations, are for no client, whatever a pattern matches.
        if channel.starts_with(OWN_NAMES.as_bytes()) && !is_presence(pattern, channel) {
            return;
        }
        // After a confirmation, for example, the same message once more is not a copy.
        if !self.last.is_copy(pattern, channel, payload) || !self.hub.is_message_open() {
            self.last.set(pattern, channel, payload);
            let whole = match payload {
                Payload::Whole(payload) => Some(&payload[..]),
                Payload::TooLarge(_) => None,
            };
            self.hub.begin_message(channel, whole);
        }
        self.messages += 1;
        self.deliver(pattern, channel, payload);
        if self.messages >= MAX_BATCH {
            self.flush();
        }
    }

    /// Delivers a message of a sharded channel, which arrives once, in this order of messages.
    pub(crate) fn sharded_message(&mut self, order: OrderId, channel: &[u8], payload: &Payload) {
        let name = [ChannelName::SHARDED.as_bytes(), channel].concat();
        let whole = match payload {
            Payload::Whole(payload) => Some(&payload[..]),
            Payload::TooLarge(_) => None,
        };
        self.hub.begin_message_at(order, &name, whole);
        self.messages += 1;
        self.deliver(None, &name, payload);
        self.hub.end_message();
        if self.messages >= MAX_BATCH {
            self.flush();
        }
    }

    /// Ends the current message: no further copy of it follows.
    pub(crate) fn end_message(&mut self) {
        self.last.payload = None;
        self.hub.end_message();
    }

    /// Flushes the batch to the shards. Called when the source has no more messages ready.
    pub(crate) fn flush(&mut self) {
        if self.messages > 0 {
            self.metrics.source_messages(self.messages);
            self.messages = 0;
            self.received = None;
            let copies_may_follow = self.hub.follows_patterns();
            self.last.detach_from_buffer(copies_may_follow);
            if !copies_may_follow {
                self.hub.end_message();
            }
            self.hub.flush();
        }
    }

    fn deliver(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        let received = *self.received.get_or_insert_with(Instant::now);
        // Only names that are valid UTF-8 can be subscribed to.
        let (Ok(name), Ok(channel)) =
            (str::from_utf8(pattern.unwrap_or(channel)), str::from_utf8(channel))
        else {
            return;
        };
        // An operator's pattern may match channels that Redis uses for its own messages.
        if pattern.is_some() && ChannelName::RESERVED.iter().any(|r| channel.starts_with(r)) {
            return;
        }
        match payload {
            Payload::Whole(payload) => {
                let metrics = &self.metrics;
                self.hub.publish(pattern.is_some(), name, received, |format| {
                    let decoded = format.decode(payload);
                    if decoded.is_malformed {
                        metrics.event_malformed();
                    }
                    Some(decoded.event)
                });
            }
            Payload::TooLarge(bytes) => {
                if let Some(held_back) = self.skipped.pass("too_large", received) {
                    const MESSAGE: &str = "skipped a message larger than max_event_bytes";
                    tracing::warn!(channel, bytes, held_back, "{MESSAGE}");
                }
                self.metrics.event_too_large();
                self.hub.skip(pattern.is_some(), name);
            }
        }
    }
}

/// Whether this is a channel of presence events, for which a stream may be subscribed to a channel of the
/// gateways.
fn is_presence(pattern: Option<&[u8]>, channel: &[u8]) -> bool {
    pattern.is_none() && channel.starts_with(ChannelName::OF_PRESENCE.as_bytes())
}

impl LastMessage {
    fn is_copy(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) -> bool {
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

    /// Copies the payload, so that it does not keep the read buffer alive: copies of a message may
    /// arrive in two reads.
    fn detach_from_buffer(&mut self, copies_may_follow: bool) {
        self.payload = match self.payload.take() {
            Some(Payload::Whole(bytes)) if copies_may_follow => {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_hub::{Hub, HubSettings};
    use ssegate_resp::Payload;

    use super::Intake;
    use crate::metrics::Metrics;

    #[test]
    fn the_same_behind_a_confirmation_is_another_message() {
        let (hub, _links) = Hub::new(HubSettings::default(), 1, ());
        let mut intake = Intake::new(hub.clone(), Metrics::new().expect("metrics"));
        let payload = Payload::Whole(Bytes::from_static(b"same"));
        intake.message(Some(b"a*"), b"a1", &payload);
        hub.confirm(true, "a?");
        assert!(!hub.is_message_open());
        intake.message(Some(b"a?"), b"a1", &payload);
        assert!(hub.is_message_open(), "it has a number of its own");
    }
}
