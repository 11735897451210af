//! The command connection for streams, and the readers that run beside it.
//!
//! Replies arrive in the order of the commands. [`checks`] handles those about a followed stream, [`ranges`]
//! those for a client's past, and [`moves`] the moves of streams in a Cluster.

mod checks;
mod moves;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::{ChannelName, Subscription};
use ssegate_hub::{SourceKind, SourceRequest};
use ssegate_resp::Value;
use tokio::time::{Instant, MissedTickBehavior};

use super::ReaderState;
use super::check_pace::CheckPace;
use super::command::{StreamCommand, StreamSearch};
use super::fork_search::ForkOutcome;
use super::info::StreamInfo;
use super::link::StreamLink;
use super::range::RangeRead;
use super::readers::Readers;
use crate::source::redis::error::{SourceError, SourceErrorKind, with_others};
use crate::source::redis::retry::{RETRY_INTERVAL, sample_to_retry};
use crate::source::redis::silence::{SILENCE_INTERVAL, Silence};

/// A reader that is still blocked is unblocked again after this.
const UNBLOCK_INTERVAL: Duration = Duration::from_millis(10);

/// One command connection after its handshake.
pub(super) struct StreamSession {
    link: StreamLink,
    state: Rc<ReaderState>,
    // Streams with a pending `StreamCommand::Info`, one at most: its reply is compared with the progress when
    // it was sent. Also streams with a search that the reply has begun.
    pending_info: HashSet<ChannelName>,
    // Streams with a search for whether they are still the same.
    searching: HashSet<ChannelName>,
    readers: Readers,
    // Streams of a Cluster that have moved to another node while a check was pending: its result does not
    // count.
    stale: HashSet<ChannelName>,
    // Streams of a Cluster that are checked again soon: their reader has failed.
    to_recheck: HashSet<ChannelName>,
    // Streams of a Cluster that were checked again just now, since they have moved to another node.
    moved: HashSet<ChannelName>,
    // Streams that Redis refused to read.
    refused: HashSet<ChannelName>,
    // Streams without a reply on this connection yet: entries may have been missed while
    // disconnected.
    unchecked: HashSet<ChannelName>,
    waiting_ranges: VecDeque<RangeRead>,
    // Range reads of streams that may not be the same.
    held_ranges: HashMap<ChannelName, Vec<RangeRead>>,
    ranges_in_flight: usize,
    is_range_refused: bool,
    silence: Silence,
    is_initialized: bool,
    last_unblock: Instant,
    check_pace: CheckPace,
}

impl StreamSession {
    pub(super) fn new(link: StreamLink, state: Rc<ReaderState>) -> Self {
        let (now, readers) = (Instant::now(), Readers::new(link.is_cluster()));
        Self {
            link,
            state,
            pending_info: HashSet::new(),
            searching: HashSet::new(),
            readers,
            stale: HashSet::new(),
            to_recheck: HashSet::new(),
            moved: HashSet::new(),
            refused: HashSet::new(),
            unchecked: HashSet::new(),
            waiting_ranges: VecDeque::new(),
            held_ranges: HashMap::new(),
            ranges_in_flight: 0,
            is_range_refused: false,
            silence: Silence::new(now),
            is_initialized: false,
            last_unblock: now,
            check_pace: CheckPace::new(now),
        }
    }

    /// Runs until the connection fails. Returns the error, and whether the initial commands had
    /// completed.
    pub(super) async fn run(mut self) -> (SourceError, bool) {
        let Err(error) = self.serve().await;
        (error, self.is_initialized)
    }

    async fn serve(&mut self) -> Result<Infallible, SourceError> {
        let state = Rc::clone(&self.state);
        self.initialize();
        let mut timers = tokio::time::interval(SILENCE_INTERVAL);
        timers.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.update_readiness();
            let needs_unblock = state.can_unblock.get() && self.readers.needs_unblock();
            let unblock_at = self.last_unblock + UNBLOCK_INTERVAL;
            let poll_at = self.readers.polled.due();
            tokio::select! {
                read = self.link.exchange() => {
                    read?;
                    self.silence.end(Instant::now());
                    self.handle_replies()?;
                }
                changes = state.hub.source_requests(SourceKind::Logs) => self.apply_changes(changes),
                calls = state.hub.log_reads(SourceKind::Logs) => self.waiting_ranges.extend(calls.map(RangeRead::new)),
                Some(ended) = self.readers.failed() => self.replace_reader(ended)?,
                () = tokio::time::sleep_until(poll_at.unwrap_or(unblock_at)), if poll_at.is_some() => {
                    self.poll_streams();
                }
                () = state.reader_refused.notified() => self.probe_refused_readers(),
                () = tokio::time::sleep_until(unblock_at), if needs_unblock => self.unblock(),
                _ = timers.tick() => self.check_timers()?,
                _ = retry.tick() => self.retry_refused(),
            }
            self.start_ranges();
            state.hub.flush();
        }
    }

    fn initialize(&mut self) {
        let names: Vec<ChannelName> = self.state.streams.borrow().keys().cloned().collect();
        self.unchecked = names.iter().cloned().collect();
        for name in names {
            self.send_info(name);
        }
        if !self.link.is_cluster() {
            self.send("PING", [].into_iter(), StreamCommand::Initialized);
        }
    }

    /// Handles everything that was read.
    fn handle_replies(&mut self) -> Result<(), SourceError> {
        while let Some((command, reply)) = self.link.next()? {
            self.handle(command, reply)?;
        }
        self.handle_failure();
        Ok(())
    }

    fn handle(&mut self, command: StreamCommand, reply: Value) -> Result<(), SourceError> {
        let reply = match reply {
            Value::Error(message) => {
                let message = String::from_utf8_lossy(&message).into_owned();
                // A stream that does not exist yet is not an error.
                if message != "ERR no such key" {
                    return self.handle_error(command, message);
                }
                Ok(StreamInfo::ABSENT)
            }
            reply => Err(reply),
        };
        let info = |reply: Result<StreamInfo, Value>| match reply {
            Ok(info) => Ok(info),
            Err(value) => StreamInfo::parse(&value)
                .ok_or_else(|| SourceError::Unexpected("invalid reply to XINFO".into())),
        };
        match (command, reply) {
            (StreamCommand::Info(name), reply) => {
                if let Err(reply) = &reply {
                    self.check_pace.record(reply);
                }
                self.compare(name, &info(reply)?);
            }
            (StreamCommand::RangeInfo(range), reply) => {
                self.handle_range_info(range, &info(reply)?)
            }
            (StreamCommand::Range(range), Err(reply)) => self.handle_range(range, reply)?,
            (StreamCommand::Search(search), Err(reply)) => self.handle_search(search, reply)?,
            (StreamCommand::Range(_) | StreamCommand::Search(_), Ok(_)) => {
                return Err(SourceError::Unexpected("invalid reply to XRANGE".into()));
            }
            (StreamCommand::Poll(name, number), reply) => {
                self.handle_poll(&name, number, reply.err().unwrap_or(Value::Null))?;
            }
            (StreamCommand::Probe(name), _) => self.send_info(name),
            (StreamCommand::Initialized, _) => self.is_initialized = true,
            (StreamCommand::Ping | StreamCommand::Unblock(_), _) => {}
        }
        Ok(())
    }

    /// Handles an error reply.
    fn handle_error(&mut self, command: StreamCommand, message: String) -> Result<(), SourceError> {
        let what = match &command {
            StreamCommand::Info(name) | StreamCommand::Probe(name) => {
                let others = self.refused.len() - usize::from(self.refused.contains(name));
                with_others(command.to_string(), others)
            }
            _ => command.to_string(),
        };
        let error = SourceError::Refused(message).for_command(what);
        if matches!(error.kind(), SourceErrorKind::Auth | SourceErrorKind::Busy) {
            return Err(error);
        }
        if matches!(command, StreamCommand::Unblock(_)) {
            self.state.refuse_unblock(&error);
            return Ok(());
        }
        self.state.report(&error, "Redis refused a command about a stream");
        if let StreamCommand::Info(name) = &command {
            self.end_check(name);
        }
        match command {
            StreamCommand::Info(name) | StreamCommand::Probe(name) => {
                self.forget(&name);
                // The stream may have been unfollowed meanwhile.
                if self.state.streams.borrow().contains_key(name.as_str()) {
                    self.unchecked.insert(name.clone());
                    self.refused.insert(name);
                }
            }
            StreamCommand::Range(_) | StreamCommand::RangeInfo(_) => {
                self.ranges_in_flight -= 1;
                self.is_range_refused = true;
            }
            // Then only the number of entries shows whether some are missing.
            StreamCommand::Search(StreamSearch { name, info, is_new_connection, .. }) => {
                self.conclude((&name, &info, is_new_connection), ForkOutcome::Whole);
            }
            StreamCommand::Poll(name, number) => {
                if self.readers.polled.end(&name, number) {
                    self.forget(&name);
                    self.unchecked.insert(name.clone());
                    self.refused.insert(name);
                }
            }
            StreamCommand::Initialized => self.is_initialized = true,
            StreamCommand::Ping | StreamCommand::Unblock(_) => {}
        }
        Ok(())
    }

    /// Stops reading a stream.
    fn forget(&mut self, name: &ChannelName) {
        self.readers.remove(name);
        self.refused.remove(name);
        self.unchecked.remove(name);
        self.to_recheck.remove(name);
    }

    fn apply_changes(&mut self, changes: impl Iterator<Item = (Subscription, SourceRequest)>) {
        for (Subscription { name, .. }, request) in changes {
            if request == SourceRequest::Leave {
                self.forget(&name);
            }
            if let Some(name) = self.state.record_change(name, request) {
                self.send_info(name);
            }
        }
    }

    /// Tries each stream of a refused reader alone: one of the keys may not be a stream, or may be
    /// denied.
    fn probe_refused_readers(&mut self) {
        for name in self.readers.take_refused() {
            self.forget(&name);
            self.send_probe(name);
        }
    }

    /// Sends `XINFO STREAM`, unless its reply is pending already. Replies arrive in order, so a
    /// pending reply is newer than any that has been handled; a newly followed stream then starts
    /// slightly earlier.
    fn send_info(&mut self, name: ChannelName) {
        if !self.pending_info.insert(name.clone()) {
            return;
        }
        if let Some(stream) = self.state.streams.borrow_mut().get_mut(name.as_str()) {
            stream.begin_check();
        }
        let arguments = ["STREAM", name.as_str()];
        self.link.send("XINFO", arguments.into_iter(), StreamCommand::Info(name.clone()));
    }

    /// Sends `XREAD` to test whether the stream may be read, then `XINFO`: an ACL may allow only one of them.
    fn send_probe(&mut self, name: ChannelName) {
        let arguments = ["COUNT", "1", "STREAMS", name.as_str(), "$"];
        self.link.send("XREAD", arguments.into_iter(), StreamCommand::Probe(name.clone()));
    }

    fn send<'a>(
        &mut self,
        name: &'a str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
        command: StreamCommand,
    ) {
        self.link.send(name, arguments, command);
    }

    /// Unblocks the connections whose `XREAD` is outdated.
    fn unblock(&mut self) {
        self.last_unblock = Instant::now();
        for reader in self.readers.outdated() {
            let (id, node) = (reader.connection_id.get().to_string(), reader.node.borrow().clone());
            let arguments = ["UNBLOCK", id.as_str()];
            self.send("CLIENT", arguments.into_iter(), StreamCommand::Unblock(node));
        }
    }

    fn check_timers(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        // In a Cluster each connection has a time limit of its own.
        let is_ping_due = !self.link.is_cluster() && self.silence.check(now)?;
        if self.check_pace.is_due(now) && self.pending_info.is_empty() {
            self.check_streams();
        }
        if is_ping_due && self.link.is_idle() {
            self.send("PING", [].into_iter(), StreamCommand::Ping);
        }
        Ok(())
    }

    /// Sends `XINFO STREAM` for each stream that is being read.
    fn check_streams(&mut self) {
        let names = self.readers.streams();
        self.check_pace.begin(names.len(), Instant::now());
        for name in names {
            self.send_info(name);
        }
    }

    fn retry_refused(&mut self) {
        self.moved.clear();
        for name in std::mem::take(&mut self.to_recheck) {
            self.recheck(name);
        }
        self.readers.end_moves(&Rc::clone(&self.state));
        for name in sample_to_retry(&self.refused) {
            self.send_probe(name);
        }
        if std::mem::take(&mut self.is_range_refused) {
            self.state.hub.repeat_log_reads(SourceKind::Logs);
        }
    }

    fn update_readiness(&mut self) {
        if self.link.is_cluster() {
            let is_known = |name: &ChannelName| self.refused.contains(name) || self.is_down(name);
            self.is_initialized |= self.unchecked.iter().all(is_known);
        }
        // One key that a client asks for and that is not a stream must not make the gateway unready
        // for all other clients; if Redis refuses every stream, it is unready.
        let is_refused = !self.refused.is_empty() && self.readers.is_empty();
        self.state.health.set_log_source_ready(self.is_initialized && !is_refused);
    }
}
