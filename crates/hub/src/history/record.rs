//! What a history keeps.

use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use crate::fleet::name::EventName;
use crate::gap::GapReason;
use crate::subject::Subject;

/// Something that happened on a channel.
#[derive(Clone, Debug)]
pub(crate) struct HistoryRecord {
    pub(crate) number: u64,
    pub(crate) received: Instant,
    /// Its name for the other gateways of a fleet.
    pub(crate) name: EventName,
    pub(crate) content: RecordContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordContent {
    /// An event: its frame and its subject.
    Event(Frame, Subject),
    /// Events may be missing here.
    Gap(GapReason),
}

impl HistoryRecord {
    pub(crate) fn is_event(&self) -> bool {
        matches!(self.content, RecordContent::Event(..))
    }

    /// If a log has lost entries there that clients may have: why.
    pub(crate) fn loss(&self) -> Option<GapReason> {
        match self.content {
            RecordContent::Gap(reason) => Some(reason).filter(|reason| reason.goes_back()),
            RecordContent::Event(..) => None,
        }
    }

    /// Whether a log has lost entries there that clients may have.
    pub(crate) fn is_loss(&self) -> bool {
        self.loss().is_some()
    }

    /// Whether it stands for one message: an event, or one that was too large.
    pub(crate) fn is_message(&self) -> bool {
        matches!(self.content, RecordContent::Event(..) | RecordContent::Gap(GapReason::TooLarge))
    }
}

impl RecordContent {
    /// The id in the frame of an event.
    pub(crate) fn id(&self) -> Option<&str> {
        match self {
            Self::Event(frame, _) => frame.id(),
            Self::Gap(_) => None,
        }
    }

    /// Bytes of the frame.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Event(frame, _) => frame.len(),
            Self::Gap(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HistoryRecord;

    #[test]
    fn a_record_takes_56_bytes() {
        assert_eq!(size_of::<HistoryRecord>(), 56);
    }
}
