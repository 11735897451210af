//! One gateway.

use ssegate_record::{ChannelRecorder, MarkReceived, Timeline};

use crate::world::Sent;

/// A gateway, and its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gateway {
    pub(crate) is_alive: bool,
    // What of the sent it reads next; `None`: it has no connection.
    pub(crate) next: Option<usize>,
    // It has read something since its subscription was confirmed.
    pub(crate) has_read: bool,
    // It listens to the node to which the slot has moved.
    pub(crate) is_at_new: bool,
    pub(crate) timeline: Timeline,
    pub(crate) recorder: ChannelRecorder<u8>,
    // The messages that this life has given ids and the log does not have.
    pub(crate) named: Vec<u8>,
}

impl Gateway {
    /// The subscription is confirmed, after everything that its node has sent.
    pub(crate) fn connect(&mut self, sent: usize, is_at_new: bool) {
        (self.is_alive, self.is_at_new) = (true, is_at_new);
        self.next = Some(sent);
        self.has_read = false;
        self.timeline = Timeline::default();
        if let Some(mark) = self.recorder.is_open().then_some(0) {
            // Without the rule that a hole ends names, the gateway continues with the names that it had.
            let newest = self.recorder.oldest().map_or(mark, |id| id.mark);
            self.timeline.receive(newest);
        }
    }

    /// The connection is lost.
    pub(crate) fn lose(&mut self) {
        self.next = None;
        self.recorder.lose();
        self.recorder.forget_request();
    }

    /// The process has ended.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// Reads the next item of `sent`.
    pub(crate) fn read(&mut self, sent: &[Sent]) {
        let Some(next) = &mut self.next else { return };
        let item = &sent[*next];
        *next += 1;
        self.has_read = true;
        match *item {
            Sent::Message(message) => {
                let newest = self.timeline.newest().unwrap_or(0);
                if self.recorder.receive(newest, message).is_some() {
                    self.named.push(message);
                }
            }
            Sent::Mark(mark) => match self.timeline.receive(mark) {
                MarkReceived::Behind => {}
                received => {
                    if received == MarkReceived::OtherTimeline {
                        self.recorder.end_run();
                    }
                    self.recorder.begin(mark);
                    self.recorder.seal(mark);
                }
            },
        }
    }
}
