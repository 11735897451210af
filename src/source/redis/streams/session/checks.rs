//! Whether a followed stream is still the same, and from where it is read.

use ssegate_hub::ChannelName;
use ssegate_resp::Value;

use super::StreamSession;
use crate::source::redis::error::SourceError;
use crate::source::redis::streams::command::{StreamCommand, StreamSearch};
use crate::source::redis::streams::entry::{EntriesReply, ReplyBudget};
use crate::source::redis::streams::fork_search::{ForkOutcome, ForkSearch, SearchStep};
use crate::source::redis::streams::info::StreamInfo;
use crate::source::redis::streams::progress::Comparison;

impl StreamSession {
    /// Compares the progress of a stream with the reply to `XINFO STREAM`. Reads the stream from there, or first
    /// begins a search for whether it is still the same.
    pub(super) fn compare(&mut self, name: ChannelName, info: &StreamInfo) {
        if self.is_stale(&name) {
            return;
        }
        let is_new_connection = self.unchecked.remove(&name);
        self.refused.remove(&name);
        let comparison = {
            let mut streams = self.state.streams.borrow_mut();
            let stream = streams.get_mut(name.as_str());
            stream.map(|stream| stream.compare(info, is_new_connection))
        };
        match comparison {
            Some(Comparison::Doubtful) => {
                // The entries that its reader reads may belong to another stream.
                self.readers.remove(&name);
                self.searching.insert(name.clone());
                self.begin_search(name, *info, is_new_connection);
            }
            Some(comparison) => self.follow(&name, comparison),
            // The stream was unfollowed meanwhile.
            None => self.end_check(&name),
        }
    }

    /// Handles the reply to a command of a search.
    pub(super) fn handle_search(
        &mut self,
        search: StreamSearch,
        reply: Value,
    ) -> Result<(), SourceError> {
        let mut budget = ReplyBudget::default();
        let reply = EntriesReply::parse(reply, &mut budget, self.state.max_event_bytes)
            .ok_or_else(|| SourceError::Unexpected("invalid reply to XRANGE".into()))?;
        let StreamSearch { name, info, is_new_connection, fork } = search;
        let step = {
            let streams = self.state.streams.borrow();
            let trail = streams.get(name.as_str()).and_then(|stream| stream.trail());
            trail.map(|trail| fork.handle(&reply, &trail))
        };
        self.advance_search((name, info, is_new_connection), step);
        Ok(())
    }

    /// Continues to read a stream, as the outcome of a search says.
    pub(super) fn conclude(
        &mut self,
        (name, info, is_new_connection): (&ChannelName, &StreamInfo, bool),
        outcome: ForkOutcome,
    ) {
        if self.is_stale(name) {
            return;
        }
        let comparison = {
            let mut streams = self.state.streams.borrow_mut();
            let stream = streams.get_mut(name.as_str()).filter(|stream| stream.last.is_some());
            stream.map(|stream| stream.conclude(outcome, info, is_new_connection))
        };
        match comparison {
            Some(comparison) => self.follow(name, comparison),
            None => self.check_again(name),
        }
    }

    /// Ends the check of a stream that was unfollowed meanwhile. If it was followed again, asks where it starts: that
    /// waited for this check.
    fn check_again(&mut self, name: &ChannelName) {
        self.end_check(name);
        if self.state.streams.borrow().contains_key(name.as_str()) {
            self.send_info(name.clone());
        }
    }

    /// Records that the reply to `XINFO STREAM` was handled, and that no search is in progress.
    pub(super) fn end_check(&mut self, name: &ChannelName) {
        self.pending_info.remove(name);
        self.searching.remove(name);
        self.waiting_ranges.extend(self.held_ranges.remove(name).unwrap_or_default());
    }

    /// Whether it is not known yet if the stream is the same.
    pub(super) fn is_doubtful(&self, name: &ChannelName) -> bool {
        self.searching.contains(name)
            || (self.pending_info.contains(name) && self.unchecked.contains(name))
    }

    fn begin_search(&mut self, name: ChannelName, info: StreamInfo, is_new_connection: bool) {
        let step = {
            let streams = self.state.streams.borrow();
            let trail = streams.get(name.as_str()).and_then(|stream| stream.trail());
            trail.map(|trail| ForkSearch::begin(info, &trail))
        };
        self.advance_search((name, info, is_new_connection), step);
    }

    /// Continues a search. There is no next step if the stream was unfollowed meanwhile, even if it was followed
    /// again.
    fn advance_search(
        &mut self,
        (name, info, is_new_connection): (ChannelName, StreamInfo, bool),
        step: Option<SearchStep>,
    ) {
        match step {
            Some(SearchStep::Fetch(fork)) => {
                let (command, arguments) = fork.command(name.as_str());
                let search = StreamSearch { name, info, is_new_connection, fork };
                let arguments = arguments.iter().map(String::as_str);
                self.send(command, arguments, StreamCommand::Search(search));
            }
            Some(SearchStep::Done(outcome)) => {
                self.conclude((&name, &info, is_new_connection), outcome);
            }
            None => self.check_again(&name),
        }
    }

    fn follow(&mut self, name: &ChannelName, comparison: Comparison) {
        self.state.report_comparison(name.as_str(), comparison);
        self.end_check(name);
        let goes_back = matches!(comparison, Comparison::Missing(reason, _) if reason.goes_back());
        self.readers.read(name.clone(), goes_back, &self.state);
    }
}
