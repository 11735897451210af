//! Messages that wait to be published for other gateways.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::Notify;

/// The bounds of the messages that wait, and of their bytes. Beyond them the oldest are dropped: a late mark or
/// question is of no use.
const MAX_WAITING: usize = 1024;
const MAX_BYTES: usize = 16 << 20;

/// A message between gateways that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutgoingFleetMessage {
    pub(super) channel: String,
    pub(super) body: Bytes,
    /// For a question: its number in the hub.
    pub(super) question: Option<u64>,
    pub(super) kind: FleetMessageKind,
}

/// What a message is for, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FleetMessageKind {
    Mark,
    Question,
    Answer,
    Settings,
}

impl FleetMessageKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Question => "question",
            Self::Answer => "answer",
            Self::Settings => "settings",
        }
    }
}

/// Messages on their way from the pub/sub connection to the one that publishes.
#[derive(Debug, Default)]
pub(super) struct FleetOutbox {
    waiting: RefCell<VecDeque<OutgoingFleetMessage>>,
    bytes: Cell<usize>,
    // The server that the pub/sub connection leads to; `None`: it does not follow the fleet.
    server: RefCell<Option<String>>,
    // How many times `server` has changed.
    generation: Cell<u64>,
    changed: Notify,
}

impl FleetOutbox {
    /// Records that the pub/sub connection follows the fleet at this server.
    pub(super) fn open(&self, server: &str) {
        self.close();
        *self.server.borrow_mut() = Some(server.to_owned());
    }

    /// Records that the pub/sub connection is lost: the messages that wait are of no use.
    pub(super) fn close(&self) {
        self.take();
        *self.server.borrow_mut() = None;
        self.generation.set(self.generation.get() + 1);
    }

    /// The server that messages are published at.
    pub(super) fn server(&self) -> Option<String> {
        self.server.borrow().clone()
    }

    /// A number that changes with each change of the pub/sub connection.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Adds a message. Returns those that are dropped to make room.
    pub(super) fn put(&self, message: OutgoingFleetMessage) -> Vec<OutgoingFleetMessage> {
        let mut waiting = self.waiting.borrow_mut();
        let mut bytes = self.bytes.get() + message.body.len();
        let mut dropped = Vec::new();
        while waiting.len() >= MAX_WAITING || bytes > MAX_BYTES {
            let Some(oldest) = waiting.pop_front() else { break };
            bytes -= oldest.body.len();
            dropped.push(oldest);
        }
        waiting.push_back(message);
        self.bytes.set(bytes);
        self.changed.notify_one();
        dropped
    }

    /// Adds a message that may be published later, if there is room.
    pub(super) fn offer(&self, message: OutgoingFleetMessage) {
        if self.waiting.borrow().len() < MAX_WAITING / 2 && self.bytes.get() < MAX_BYTES / 2 {
            self.put(message);
        }
    }

    /// Waits until there are messages. Cancel safe.
    pub(super) async fn wait(&self) {
        while self.waiting.borrow().is_empty() {
            self.changed.notified().await;
        }
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> VecDeque<OutgoingFleetMessage> {
        self.bytes.set(0);
        std::mem::take(&mut *self.waiting.borrow_mut())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{FleetMessageKind, FleetOutbox, MAX_WAITING, OutgoingFleetMessage};

    fn message(question: u64) -> OutgoingFleetMessage {
        let (channel, body, kind) = ("c".to_owned(), Bytes::new(), FleetMessageKind::Question);
        OutgoingFleetMessage { channel, body, question: Some(question), kind }
    }

    #[test]
    fn the_oldest_message_is_dropped_for_a_new_one() {
        let outbox = FleetOutbox::default();
        for number in 0..MAX_WAITING as u64 {
            assert_eq!(outbox.put(message(number)), []);
        }
        assert_eq!(outbox.put(message(9999)), [message(0)]);
        let all = outbox.take();
        assert_eq!((all.len(), all.front()), (MAX_WAITING, Some(&message(1))));
        assert!(outbox.take().is_empty());
    }

    #[test]
    fn the_bytes_that_wait_are_bounded() {
        let outbox = FleetOutbox::default();
        let large = |number| {
            let body = vec![0; super::MAX_BYTES / 2].into();
            OutgoingFleetMessage { body, ..message(number) }
        };
        assert_eq!(outbox.put(large(1)), []);
        assert_eq!(outbox.put(large(2)), []);
        assert_eq!(outbox.put(message(3)), []);
        assert_eq!(outbox.put(large(4)), [large(1)]);
        assert_eq!(outbox.take().len(), 3);
        assert_eq!(outbox.put(large(5)), []);
    }

    #[test]
    fn nothing_waits_for_another_connection() {
        let outbox = FleetOutbox::default();
        outbox.open("one");
        let generation = outbox.generation();
        outbox.put(message(1));
        outbox.close();
        assert!(outbox.take().is_empty() && outbox.server().is_none());
        outbox.open("two");
        assert!(outbox.server().as_deref() == Some("two") && outbox.generation() > generation);
    }
}
