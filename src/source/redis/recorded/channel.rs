//! One recorded channel, as this gateway has it.

use std::collections::VecDeque;

use bytes::Bytes;
use ssegate_hub::EntryId;
use ssegate_record::{ChannelRecorder, RecordId};
use ssegate_resp::Payload;

use super::pace::RecordPace;

/// What is kept beside each payload that waits, in bytes, about.
const OVERHEAD: usize = 96;

/// A channel that is followed, or that a followed pattern brings.
#[derive(Debug, Default)]
pub(super) struct RecordedChannel {
    pub(super) recorder: ChannelRecorder<RecordedPayload>,
    pub(super) pace: RecordPace,
    /// The hub needs its messages.
    pub(super) is_followed: bool,
    /// This connection receives what is published: the server has confirmed the subscription.
    pub(super) is_confirmed: bool,
    /// A followed pattern brings its messages.
    pub(super) is_fed: bool,
    /// The newest id that the hub has of it; `None` while it has none.
    pub(super) newest: Option<EntryId>,
    /// It missed messages, which are being read from the log. Newer messages wait for them.
    pub(super) catch_up: Option<CatchUp>,
    /// What its recorder keeps, in bytes.
    pub(super) held: usize,
    /// Messages were dropped for lack of memory. The next mark goes into the log, with a gap before it.
    pub(super) is_dropped: bool,
}

/// Messages that wait until earlier ones have been read from the log.
#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) until: EntryId,
    held: VecDeque<(EntryId, RecordedPayload)>,
    bytes: usize,
}

impl CatchUp {
    pub(super) fn new(until: EntryId) -> Self {
        Self { until, held: VecDeque::new(), bytes: 0 }
    }

    /// Holds a message.
    pub(super) fn hold(&mut self, id: EntryId, message: RecordedPayload) {
        self.bytes += message.held();
        self.held.push_back((id, message));
    }

    /// What is held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was held.
    pub(super) fn into_held(self) -> VecDeque<(EntryId, RecordedPayload)> {
        self.held
    }
}

/// A message that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordedPayload {
    Whole(Bytes),
    /// It was longer than `max_event_bytes`.
    TooLarge,
}

impl RecordedPayload {
    /// A copy, so that it does not keep the read buffer.
    pub(super) fn copy(payload: &Payload) -> Self {
        match payload {
            Payload::Whole(bytes) => Self::Whole(Bytes::copy_from_slice(bytes)),
            Payload::TooLarge(_) => Self::TooLarge,
        }
    }

    /// What it holds in memory, about.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len() + OVERHEAD,
            Self::TooLarge => OVERHEAD,
        }
    }
}

impl RecordedChannel {
    /// The connection is lost.
    pub(super) fn lose(&mut self) {
        // The next run begins after the loss of the connection, and so after what was dropped.
        (self.is_confirmed, self.is_dropped) = (false, false);
        self.recorder.lose();
        // What is held will be read from the log.
        self.catch_up = None;
    }

    /// Whether nothing is needed of it any more.
    pub(super) fn is_idle(&self, newest_mark: u64) -> bool {
        // If messages were counted since the newest mark, the next one is named by that count.
        let is_counted = self.recorder.place(newest_mark).is_some_and(|place| place.k > 0);
        let is_waiting = self.recorder.has_items() || self.is_dropped;
        !(self.is_followed || is_waiting || self.is_fed && is_counted)
    }
}

/// The id of an event and of an entry.
pub(super) fn entry_id(RecordId { mark, k }: RecordId) -> EntryId {
    EntryId { milliseconds: mark, sequence: k }
}

/// The id of a message.
pub(super) fn record_id(EntryId { milliseconds, sequence }: EntryId) -> RecordId {
    RecordId { mark: milliseconds, k: sequence }
}
