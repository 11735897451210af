//! The command connection for streams, and the readers that run beside it.
//!
//! Replies arrive in the order of the commands.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::{ChannelName, EntryId, Subscription};
use ssegate_hub::{LogRange, LogRead, SourceKind, SourceRequest};
use ssegate_resp::Value;
use tokio::time::{Instant, MissedTickBehavior};

use super::ReaderState;
use super::check_pace::CheckPace;
use super::command::StreamCommand;
use super::info::StreamInfo;
use super::progress::Comparison;
use super::range::{RangeRead, RangeStep};
use super::readers::Readers;
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::{SourceError, SourceErrorKind, with_others};
use crate::source::redis::retry::{RETRY_INTERVAL, sample_to_retry};
use crate::source::redis::silence::{SILENCE_INTERVAL, Silence};

/// A reader that is still blocked is unblocked again after this.
const UNBLOCK_INTERVAL: Duration = Duration::from_millis(10);
/// Range reads in flight, at most.
const MAX_RANGES: usize = 32;

/// One command connection after its handshake.
pub(super) struct StreamSession {
    connection: RedisConnection,
    state: Rc<ReaderState>,
    pending: VecDeque<StreamCommand>,
    // Streams with a pending `StreamCommand::Info`, one at most: its reply is compared with the
    // progress when it was sent.
    pending_info: HashSet<ChannelName>,
    readers: Readers,
    // Streams that Redis refused to read.
    refused: HashSet<ChannelName>,
    // Streams without a reply on this connection yet: entries may have been missed while
    // disconnected.
    unchecked: HashSet<ChannelName>,
    waiting_ranges: VecDeque<LogRead>,
    ranges_in_flight: usize,
    is_range_refused: bool,
    silence: Silence,
    is_initialized: bool,
    last_unblock: Instant,
    check_pace: CheckPace,
}

impl StreamSession {
    pub(super) fn new(connection: RedisConnection, state: Rc<ReaderState>) -> Self {
        let now = Instant::now();
        Self {
            connection,
            state,
            pending: VecDeque::new(),
            pending_info: HashSet::new(),
            readers: Readers::default(),
            refused: HashSet::new(),
            unchecked: HashSet::new(),
            waiting_ranges: VecDeque::new(),
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
            let needs_unblock = self.readers.needs_unblock();
            let unblock_at = self.last_unblock + UNBLOCK_INTERVAL;
            tokio::select! {
                read = self.connection.exchange() => {
                    read?;
                    self.silence.end(Instant::now());
                    self.handle_replies()?;
                }
                changes = state.hub.source_requests(SourceKind::Logs) => self.apply_changes(changes),
                calls = state.hub.log_reads() => self.waiting_ranges.extend(calls),
                Some(error) = self.readers.failed() => return Err(error),
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
        self.send("PING", [].into_iter(), StreamCommand::Initialized);
    }

    /// Handles everything that was read.
    fn handle_replies(&mut self) -> Result<(), SourceError> {
        while let Some(value) = self.connection.next_value()? {
            let Some(command) = self.pending.pop_front() else {
                return Err(SourceError::Unexpected(format!("{value:?}")));
            };
            self.handle(command, value)?;
        }
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
            Value::Push(_) => {
                // Not a reply.
                self.pending.push_front(command);
                return Ok(());
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
                self.pending_info.remove(&name);
                if let Err(reply) = &reply {
                    self.check_pace.record(reply);
                }
                self.compare(name, &info(reply)?);
            }
            (StreamCommand::RangeInfo(range), reply) => {
                self.ranges_in_flight -= 1;
                let info = info(reply)?;
                let metrics = self.state.metrics.clone();
                let is_reset_known = range.is_reset_known;
                let rolled_back_to = self.rolled_back_to(&range.call);
                let next = range.handle_info(&info, rolled_back_to, &metrics);
                self.advance(next, is_reset_known)?;
            }
            (StreamCommand::Range(range), Err(reply)) => {
                self.ranges_in_flight -= 1;
                let metrics = self.state.metrics.clone();
                let is_reset_known = range.is_reset_known;
                let next = range.handle_entries(reply, self.state.max_event_bytes, &metrics);
                self.advance(next, is_reset_known)?;
            }
            (StreamCommand::Range(_), Ok(_)) => {
                return Err(SourceError::Unexpected("invalid reply to XRANGE".into()));
            }
            (StreamCommand::Probe(name), _) => self.send_info(name),
            (StreamCommand::Initialized, _) => self.is_initialized = true,
            (StreamCommand::Ping | StreamCommand::Unblock, _) => {}
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
        self.state.report(&error, "Redis refused a command about a stream");
        if let StreamCommand::Info(name) = &command {
            self.pending_info.remove(name);
        }
        match command {
            StreamCommand::Info(name) | StreamCommand::Probe(name) => {
                self.forget(&name);
                // It may have been unfollowed meanwhile.
                if self.state.streams.borrow().contains_key(name.as_str()) {
                    self.unchecked.insert(name.clone());
                    self.refused.insert(name);
                }
            }
            StreamCommand::Range(_) | StreamCommand::RangeInfo(_) => {
                self.ranges_in_flight -= 1;
                self.is_range_refused = true;
            }
            StreamCommand::Initialized => self.is_initialized = true,
            StreamCommand::Ping | StreamCommand::Unblock => {}
        }
        Ok(())
    }

    /// Compares the progress of a stream with the reply to `XINFO STREAM`, and reads the stream
    /// from there.
    fn compare(&mut self, name: ChannelName, info: &StreamInfo) {
        let was_unchecked = self.unchecked.remove(&name);
        self.refused.remove(&name);
        let comparison = match self.state.streams.borrow_mut().get_mut(name.as_str()) {
            Some(stream) if was_unchecked => stream.compare_after_reconnect(info),
            Some(stream) => stream.compare(info),
            // It was unfollowed meanwhile.
            None => return,
        };
        self.state.report_comparison(name.as_str(), comparison);
        let goes_back = matches!(comparison, Comparison::Missing(reason, _) if reason.goes_back());
        self.readers.read(name, goes_back, &self.state);
    }

    /// The entry after which a client has to resume if its own was lost in a rollback.
    fn rolled_back_to(&self, call: &LogRead) -> Option<EntryId> {
        let LogRange::After { after, .. } = call.range else { return None };
        self.state.streams.borrow().get(call.log.as_str())?.rolled_back_to(after)
    }

    /// Stops reading a stream.
    fn forget(&mut self, name: &ChannelName) {
        self.readers.remove(name);
        self.refused.remove(name);
        self.unchecked.remove(name);
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

    fn advance(&mut self, next: RangeStep, is_reset_known: bool) -> Result<(), SourceError> {
        match next {
            RangeStep::Retry(mut range) => {
                range.is_reset_known = is_reset_known;
                self.send_range(range);
            }
            RangeStep::FetchInfo(mut range) => {
                range.is_reset_known = is_reset_known;
                self.ranges_in_flight += 1;
                let name = range.call.log.clone();
                let arguments = ["STREAM", name.as_str()];
                self.send("XINFO", arguments.into_iter(), StreamCommand::RangeInfo(range));
            }
            // Its reader must detect the reset first: what it has read belongs to the old stream.
            RangeStep::Done { call, is_reset: true, .. } if !is_reset_known => {
                self.send_info(call.log.clone());
                let mut range = RangeRead::new(call);
                range.is_reset_known = true;
                self.send_range(range);
            }
            RangeStep::Done { call, past, .. } => self.state.hub.finish_log_read(call.key(), past),
            RangeStep::Malformed => {
                return Err(SourceError::Unexpected("invalid reply to XRANGE".into()));
            }
        }
        Ok(())
    }

    fn start_ranges(&mut self) {
        while self.ranges_in_flight < MAX_RANGES
            && let Some(call) = self.waiting_ranges.pop_front()
        {
            self.send_range(RangeRead::new(call));
        }
    }

    fn send_range(&mut self, range: RangeRead) {
        self.ranges_in_flight += 1;
        let (command, arguments) = range.command();
        self.send(command, arguments.iter().map(String::as_str), StreamCommand::Range(range));
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
        self.connection.queue("XINFO", arguments.into_iter());
        self.pending.push_back(StreamCommand::Info(name));
    }

    /// Sends `XREAD` to find out whether the stream may be read, then `XINFO`: an ACL may allow one
    /// of them only.
    fn send_probe(&mut self, name: ChannelName) {
        let arguments = ["COUNT", "1", "STREAMS", name.as_str(), "$"];
        self.connection.queue("XREAD", arguments.into_iter());
        self.pending.push_back(StreamCommand::Probe(name));
    }

    fn send<'a>(
        &mut self,
        name: &str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
        command: StreamCommand,
    ) {
        self.connection.queue(name, arguments);
        self.pending.push_back(command);
    }

    /// Unblocks the connections whose `XREAD` is outdated.
    fn unblock(&mut self) {
        self.last_unblock = Instant::now();
        for connection in self.readers.outdated_connections() {
            let arguments = ["UNBLOCK", connection.as_str()];
            self.send("CLIENT", arguments.into_iter(), StreamCommand::Unblock);
        }
    }

    fn check_timers(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        let is_ping_due = self.silence.check(now)?;
        if self.check_pace.is_due(now) && self.pending_info.is_empty() {
            self.check_streams();
        }
        if is_ping_due && self.pending.is_empty() {
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
        for name in sample_to_retry(&self.refused) {
            self.send_probe(name);
        }
        if std::mem::take(&mut self.is_range_refused) {
            self.state.hub.repeat_log_reads();
        }
    }

    fn update_readiness(&self) {
        // One key that a client asks for and that is not a stream must not make the gateway unready
        // for all other clients; if Redis refuses every stream, it is unready.
        let is_refused = !self.refused.is_empty() && self.readers.is_empty();
        self.state.health.set_log_source_ready(self.is_initialized && !is_refused);
    }
}
