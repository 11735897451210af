//! Reads parts of streams' past for clients that resume.

use ssegate_hub::ChannelName;
use ssegate_resp::Value;

use super::StreamSession;
use crate::source::redis::error::SourceError;
use crate::source::redis::streams::command::StreamCommand;
use crate::source::redis::streams::info::StreamInfo;
use crate::source::redis::streams::range::{RangeRead, RangeStep};
use crate::source::redis::streams::rollbacks::Rollbacks;

/// Range reads in flight, at most.
const MAX_RANGES: usize = 32;

impl StreamSession {
    /// Sends the range reads that wait, except those of streams that may not be the same.
    pub(super) fn start_ranges(&mut self) {
        while self.ranges_in_flight < MAX_RANGES
            && let Some(range) = self.waiting_ranges.pop_front()
        {
            match self.is_doubtful(&range.call.log) {
                true => self.hold_range(range),
                false => self.send_range(range),
            }
        }
    }

    /// Handles the reply to `XRANGE` or `XREVRANGE`.
    pub(super) fn handle_range(
        &mut self,
        range: RangeRead,
        reply: Value,
    ) -> Result<(), SourceError> {
        self.ranges_in_flight -= 1;
        let (max_event_bytes, metrics) = (self.state.max_event_bytes, &self.state.metrics);
        let next = self.with_rollbacks(range.call.log.clone(), |rollbacks| {
            range.handle_entries(reply, max_event_bytes, rollbacks, metrics)
        });
        let next = next.ok_or_else(|| SourceError::Unexpected("invalid reply to XRANGE".into()))?;
        self.advance(next);
        Ok(())
    }

    /// Handles the reply to `XINFO STREAM`.
    pub(super) fn handle_range_info(&mut self, range: RangeRead, info: &StreamInfo) {
        self.ranges_in_flight -= 1;
        let metrics = &self.state.metrics;
        let next = self.with_rollbacks(range.call.log.clone(), |rollbacks| {
            range.handle_info(info, rollbacks, metrics)
        });
        self.advance(next);
    }

    fn with_rollbacks<T>(&self, name: ChannelName, handle: impl FnOnce(&Rollbacks) -> T) -> T {
        let streams = self.state.streams.borrow();
        match streams.get(&name) {
            Some(stream) => handle(&stream.rollbacks),
            None => handle(&Rollbacks::default()),
        }
    }

    fn advance(&mut self, next: RangeStep) {
        match next {
            RangeStep::Send(range) => self.send_range(range),
            RangeStep::FetchInfo(range) => {
                self.ranges_in_flight += 1;
                let name = range.call.log.clone();
                let arguments = ["STREAM", name.as_str()];
                self.send("XINFO", arguments.into_iter(), StreamCommand::RangeInfo(range));
            }
            // The entries may be of another stream than those that were read before.
            RangeStep::Done { again, .. } if self.is_doubtful(&again.call.log) => {
                self.hold_range(again);
            }
            // Its reader must detect the reset first: what it has read belongs to the old stream.
            RangeStep::Done { mut again, is_reset: true, .. } if !again.is_reset_known => {
                again.is_reset_known = true;
                self.send_info(again.call.log.clone());
                self.send_range(again);
            }
            RangeStep::Done { again, past, .. } => {
                self.state.hub.finish_log_read(again.call.key(), past);
            }
        }
    }

    fn hold_range(&mut self, range: RangeRead) {
        self.held_ranges.entry(range.call.log.clone()).or_default().push(range);
    }

    fn send_range(&mut self, range: RangeRead) {
        self.ranges_in_flight += 1;
        let (command, arguments) = range.command();
        self.send(command, arguments.iter().map(String::as_str), StreamCommand::Range(range));
    }
}
