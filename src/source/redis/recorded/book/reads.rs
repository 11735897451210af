//! What is to be read of logs.

use tokio::time::Instant;

use super::RecordBook;
use crate::source::redis::recorded::past::{PastRead, PastReader};

impl RecordBook {
    /// This is to be read. As long as nothing is, clients may come back and leave as often as they like.
    pub(in super::super) fn add_read(&mut self, read: PastRead) {
        let hub = &self.hub;
        self.reads.push(read, |read| match &read.reader {
            PastReader::Client(call) => hub.awaits_log_read(call.key()),
            PastReader::CatchUp => true,
        });
    }

    /// What is to be read now, at most so much.
    pub(in super::super) fn take_reads(&mut self, most: usize, now: Instant) -> Vec<PastRead> {
        let mut room = most;
        self.reads.take_if(|read| {
            let is_taken = room > 0 && read.not_before <= now;
            room -= usize::from(is_taken);
            is_taken
        })
    }

    /// Whether anything is to be read.
    pub(in super::super::super) fn has_reads(&self) -> bool {
        !self.reads.is_empty()
    }
}
