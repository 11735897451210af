//! The end of recording: before a gateway exits, its logs have what it received, and say up to where they are whole.

use ssegate_record::RecordId;
use tokio::time::Instant;

use super::RecordBook;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordClosing {
    /// The next mark is where the logs are to be whole up to.
    Asked,
    /// It was this one.
    Sealed(u64),
}

impl RecordBook {
    /// The gateway exits soon: each log is to say that it is whole up to the next mark. Another gateway may not know it:
    /// it may have begun later than the newest entry was added.
    pub(in super::super) fn close(&mut self, now: Instant) {
        self.closing = Some(RecordClosing::Asked);
        self.request_mark(now);
    }

    /// Whether the logs have all from before that mark, as far as this gateway knows it.
    pub(in super::super) fn is_closed(&self) -> bool {
        let Some(RecordClosing::Sealed(mark)) = self.closing else { return false };
        let end = RecordId::start(mark);
        self.active.iter().filter_map(|name| self.channels.get(name)).all(|channel| {
            let is_sealed = channel.recorder.oldest().is_none_or(|oldest| oldest > end);
            // This gateway has not received what came before either, and has nothing to add behind a gap.
            is_sealed || channel.pace.is_missing() && !channel.recorder.has_messages()
        })
    }

    /// A mark has come: if the gateway exits, each log is whole up to it.
    pub(super) fn seal_all(&mut self, mark: u64, now: Instant) {
        if self.closing != Some(RecordClosing::Asked) {
            return;
        }
        self.closing = Some(RecordClosing::Sealed(mark));
        for (name, channel) in &mut self.channels {
            if channel.recorder.is_open() {
                channel.recorder.seal(mark);
                channel.pace.begin(now);
                self.active.insert(name.clone());
            }
        }
    }
}
