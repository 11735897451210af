//! What a history keeps.

use ssegate_sse::frame::Frame;
use tokio::time::Instant;

use crate::hub::gap::GapReason;
use crate::hub::subject::Subject;

/// Something that happened on a channel.
#[derive(Clone, Debug)]
pub(in crate::hub) struct HistoryRecord {
    pub(in crate::hub) number: u64,
    pub(in crate::hub) received: Instant,
    pub(in crate::hub) content: RecordContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum RecordContent {
    /// An event: its frame and its subject.
    Event(Frame, Subject),
    /// Events may be missing here.
    Gap(GapReason),
}

impl HistoryRecord {
    pub(super) fn is_event(&self) -> bool {
        matches!(self.content, RecordContent::Event(..))
    }
}

impl RecordContent {
    /// Bytes of the frame.
    pub(in crate::hub) fn bytes(&self) -> usize {
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
    fn a_record_takes_40_bytes() {
        assert_eq!(size_of::<HistoryRecord>(), 40);
    }
}
