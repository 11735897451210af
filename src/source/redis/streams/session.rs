//! The connection for questions, from its greeting to its end, and the groups that read meanwhile.
//!
//! Answers come in the order of the questions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use super::followed::Finding;
use super::group::Group;
use super::info::Info;
use super::past::{Next, Past};
use super::question::Question;
use crate::event::{ChannelName, EntryId, Subscription};
use crate::hub::{LogRange, LogRead, SourceKind, SourceRequest};
use crate::source::redis::connection::Connection;
use crate::source::redis::error::{SourceError, SourceErrorKind, with_others};
use crate::source::redis::greeting::NO_ID;
use crate::source::redis::life::{ASK_AGAIN_INTERVAL, some_of};
use crate::source::resp::Value;

/// A question goes out when nothing was heard for so long, and its answer may take as long again.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked whether something is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often Redis is asked whether the streams are what they were; less often where they are many,
/// or their entries large.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const MAX_CHECKS_PER_SECOND: u32 = 2000;
const MAX_CHECKED_BYTES_PER_SECOND: f64 = 4e6;
/// A group that does not wake is woken again.
const WAKE_INTERVAL: Duration = Duration::from_millis(10);
/// Pieces of the past that are asked for together.
const MAX_PASTS: usize = 32;

/// One connection for questions, from its greeting to its end.
pub(super) struct Session {
    connection: Connection,
    shared: Rc<Shared>,
    awaited: VecDeque<Question>,
    // The streams of which a `Question::Stream` is awaited: one for each, since what Redis says is
    // compared with where its reader was when that question was sent.
    asked: HashSet<ChannelName>,
    groups: Vec<Rc<Group>>,
    readers: JoinSet<SourceError>,
    group_of: HashMap<ChannelName, Rc<Group>>,
    // What Redis does not let us read.
    refused: HashSet<ChannelName>,
    // Streams of which nothing was heard on this connection: Redis was away for them.
    absent: HashSet<ChannelName>,
    pasts: VecDeque<LogRead>,
    pasts_asked: usize,
    is_past_refused: bool,
    heard: Instant,
    is_doubted: bool,
    has_begun: bool,
    woken: Instant,
    next_check: Instant,
    checked_bytes: usize,
}

impl Session {
    pub(super) fn new(connection: Connection, shared: Rc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            connection,
            shared,
            awaited: VecDeque::new(),
            asked: HashSet::new(),
            groups: Vec::new(),
            readers: JoinSet::new(),
            group_of: HashMap::new(),
            refused: HashSet::new(),
            absent: HashSet::new(),
            pasts: VecDeque::new(),
            pasts_asked: 0,
            is_past_refused: false,
            heard: now,
            is_doubted: false,
            has_begun: false,
            woken: now,
            next_check: now,
            checked_bytes: 0,
        }
    }

    /// Why it ended, and whether every stream had been asked for.
    pub(super) async fn run(mut self) -> (SourceError, bool) {
        let Err(error) = self.serve().await;
        (error, self.has_begun)
    }

    async fn serve(&mut self) -> Result<Infallible, SourceError> {
        let shared = Rc::clone(&self.shared);
        self.begin();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = tokio::time::interval(ASK_AGAIN_INTERVAL);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.settle();
            let is_to_wake = self.groups.iter().any(|group| group.waits_for_old());
            let wake_at = self.woken + WAKE_INTERVAL;
            tokio::select! {
                read = self.connection.exchange() => {
                    read?;
                    self.heard = Instant::now();
                    self.take_in()?;
                }
                wishes = shared.hub.source_requests(SourceKind::Logs) => self.change(wishes),
                calls = shared.hub.log_reads() => self.pasts.extend(calls),
                Some(ended) = self.readers.join_next() => {
                    return Err(ended.unwrap_or_else(|error| SourceError::Unexpected(error.to_string())));
                }
                () = shared.refused.notified() => self.check_refused_groups(),
                () = tokio::time::sleep_until(wake_at), if is_to_wake => self.wake(),
                _ = look.tick() => self.look()?,
                _ = again.tick() => self.ask_again(),
            }
            self.ask_for_pasts();
            shared.hub.flush();
        }
    }

    fn begin(&mut self) {
        let names: Vec<ChannelName> = self.shared.streams.borrow().keys().cloned().collect();
        self.absent = names.iter().cloned().collect();
        for name in names {
            self.ask_about(name);
        }
        self.ask("PING", [].into_iter(), Question::Begun);
    }

    /// Takes everything that was read, and only then lets the groups know.
    fn take_in(&mut self) -> Result<(), SourceError> {
        while let Some(value) = self.connection.next_value()? {
            let Some(question) = self.awaited.pop_front() else {
                return Err(SourceError::Unexpected(format!("{value:?}")));
            };
            self.take(question, value)?;
        }
        Ok(())
    }

    fn take(&mut self, question: Question, answer: Value) -> Result<(), SourceError> {
        let answer = match answer {
            Value::Error(message) => {
                let message = String::from_utf8_lossy(&message).into_owned();
                // That there is no such stream yet is an answer.
                if message != "ERR no such key" {
                    return self.refuse(question, message);
                }
                Ok(Info::NONE)
            }
            Value::Push(_) => {
                // Not an answer.
                self.awaited.push_front(question);
                return Ok(());
            }
            answer => Err(answer),
        };
        let info = |answer: Result<Info, Value>| match answer {
            Ok(info) => Ok((info, 0)),
            Err(value) => Info::read(&value)
                .map(|info| (info, bytes_of(&value)))
                .ok_or_else(|| SourceError::Unexpected("to XINFO".into())),
        };
        match (question, answer) {
            (Question::Stream(name), answer) => {
                self.asked.remove(&name);
                let (info, bytes) = info(answer)?;
                self.checked_bytes += bytes;
                self.compare(name, &info);
            }
            (Question::PastInfo(past), answer) => {
                self.pasts_asked -= 1;
                let (info, _) = info(answer)?;
                let metrics = self.shared.metrics.clone();
                let is_reset_known = past.is_reset_known;
                let returned_to = self.returned_to(&past.call);
                let next = past.take_info(&info, returned_to, &metrics);
                self.proceed(next, is_reset_known)?;
            }
            (Question::Past(past), Err(answer)) => {
                self.pasts_asked -= 1;
                let (most, metrics) = (self.shared.max_event_bytes, self.shared.metrics.clone());
                let is_reset_known = past.is_reset_known;
                self.proceed(past.take(answer, most, &metrics), is_reset_known)?;
            }
            (Question::Past(_), Ok(_)) => {
                return Err(SourceError::Unexpected("to XRANGE".into()));
            }
            (Question::Readable(name), _) => self.ask_about(name),
            (Question::Begun, _) => self.has_begun = true,
            (Question::Pong | Question::Woken, _) => {}
        }
        Ok(())
    }

    /// An error in the place of an answer.
    fn refuse(&mut self, question: Question, message: String) -> Result<(), SourceError> {
        let what = match &question {
            Question::Stream(name) | Question::Readable(name) => {
                let others = self.refused.len() - usize::from(self.refused.contains(name));
                with_others(question.to_string(), others)
            }
            _ => question.to_string(),
        };
        let error = SourceError::Refused(message).to(what);
        if matches!(error.kind(), SourceErrorKind::Auth | SourceErrorKind::Busy) {
            return Err(error);
        }
        self.shared.report(&error, "Redis refused a question about a stream");
        if let Question::Stream(name) = &question {
            self.asked.remove(name);
        }
        match question {
            Question::Stream(name) | Question::Readable(name) => {
                self.leave(&name);
                // It may have been left meanwhile.
                if self.shared.streams.borrow().contains_key(name.as_str()) {
                    self.absent.insert(name.clone());
                    self.refused.insert(name);
                }
            }
            Question::Past(_) | Question::PastInfo(_) => {
                self.pasts_asked -= 1;
                self.is_past_refused = true;
            }
            Question::Begun => self.has_begun = true,
            Question::Pong | Question::Woken => {}
        }
        Ok(())
    }

    /// Compares what Redis says of a stream with what we know, and reads it from there on.
    fn compare(&mut self, name: ChannelName, info: &Info) {
        let was_absent = self.absent.remove(&name);
        self.refused.remove(&name);
        let finding = match self.shared.streams.borrow_mut().get_mut(name.as_str()) {
            Some(stream) if was_absent => stream.compare_after_absence(info),
            Some(stream) => stream.compare(info),
            // It was left meanwhile.
            None => return,
        };
        self.shared.tell(name.as_str(), finding);
        match self.group_of.get(&name) {
            None => self.join_group(name),
            Some(group) => {
                if matches!(finding, Finding::Missing(reason, _) if reason.goes_back()) {
                    group.change();
                }
            }
        }
    }

    /// Where a client has to go on whose entry was here and has vanished.
    fn returned_to(&self, call: &LogRead) -> Option<EntryId> {
        let LogRange::After { after, .. } = call.range else { return None };
        self.shared.streams.borrow().get(call.log.as_str())?.returned_to(after)
    }

    fn join_group(&mut self, name: ChannelName) {
        let group = match self.groups.iter().find(|group| group.has_room()) {
            Some(group) => Rc::clone(group),
            None => {
                let group = Rc::new(Group::default());
                let reading = Rc::clone(&group).read(Rc::clone(&self.shared));
                self.readers.spawn_local(reading);
                self.groups.push(Rc::clone(&group));
                group
            }
        };
        group.names.borrow_mut().insert(name.clone());
        group.change();
        self.group_of.insert(name, group);
    }

    fn leave(&mut self, name: &ChannelName) {
        if let Some(group) = self.group_of.remove(name) {
            group.names.borrow_mut().remove(name);
            group.change();
        }
        self.refused.remove(name);
        self.absent.remove(name);
    }

    fn change(&mut self, wishes: impl Iterator<Item = (Subscription, SourceRequest)>) {
        for (Subscription { name, .. }, wish) in wishes {
            if wish == SourceRequest::Leave {
                self.leave(&name);
            }
            if let Some(name) = self.shared.note_wish(name, wish) {
                self.ask_about(name);
            }
        }
    }

    /// One of its streams is none, or may not be read: each is asked for by itself.
    fn check_refused_groups(&mut self) {
        for group in self.groups.clone() {
            if group.is_refused.replace(false) {
                let names: Vec<ChannelName> = group.names.borrow().iter().cloned().collect();
                for name in names {
                    self.leave(&name);
                    self.try_to_read(name);
                }
            }
        }
    }

    fn proceed(&mut self, next: Next, is_reset_known: bool) -> Result<(), SourceError> {
        match next {
            Next::Ask(mut past) => {
                past.is_reset_known = is_reset_known;
                self.ask_for_past(past);
            }
            Next::AskForInfo(mut past) => {
                past.is_reset_known = is_reset_known;
                self.pasts_asked += 1;
                let name = past.call.log.clone();
                let arguments = ["STREAM", name.as_str()];
                self.ask("XINFO", arguments.into_iter(), Question::PastInfo(past));
            }
            // Its reader is to know first: what it has read is of the old stream too.
            Next::Answered { call, is_reset: true, .. } if !is_reset_known => {
                self.ask_about(call.log.clone());
                let mut past = Past::new(call);
                past.is_reset_known = true;
                self.ask_for_past(past);
            }
            Next::Answered { call, past, .. } => {
                self.shared.hub.finish_log_read(call.key(), past);
            }
            Next::Nonsense => return Err(SourceError::Unexpected("to XRANGE".into())),
        }
        Ok(())
    }

    fn ask_for_pasts(&mut self) {
        while self.pasts_asked < MAX_PASTS
            && let Some(call) = self.pasts.pop_front()
        {
            self.ask_for_past(Past::new(call));
        }
    }

    fn ask_for_past(&mut self, past: Past) {
        self.pasts_asked += 1;
        let (command, arguments) = past.command();
        self.ask(command, arguments.iter().map(String::as_str), Question::Past(past));
    }

    /// Asks what the stream is now, unless the answer to that is on its way already. Redis answers in
    /// order, so that answer is newer than any that has come; a stream that is followed anew then
    /// begins a little earlier.
    fn ask_about(&mut self, name: ChannelName) {
        if !self.asked.insert(name.clone()) {
            return;
        }
        if let Some(stream) = self.shared.streams.borrow_mut().get_mut(name.as_str()) {
            stream.note_asked();
        }
        let arguments = ["STREAM", name.as_str()];
        self.connection.send("XINFO", arguments.into_iter());
        self.awaited.push_back(Question::Stream(name));
    }

    /// Asks whether it may be read, and then what it is: a user may be allowed the one without the other.
    fn try_to_read(&mut self, name: ChannelName) {
        let arguments = ["COUNT", "1", "STREAMS", name.as_str(), "$"];
        self.connection.send("XREAD", arguments.into_iter());
        self.awaited.push_back(Question::Readable(name));
    }

    fn ask<'a>(
        &mut self,
        command: &str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
        question: Question,
    ) {
        self.connection.send(command, arguments);
        self.awaited.push_back(question);
    }

    /// Lets those connections go that wait for what is no longer right.
    fn wake(&mut self) {
        self.woken = Instant::now();
        let old = self.groups.iter().filter(|group| group.waits_for_old());
        let old = old.filter(|group| group.connection.get() != NO_ID);
        let connections: Vec<String> =
            old.map(|group| group.connection.get().to_string()).collect();
        for connection in connections {
            let arguments = ["UNBLOCK", connection.as_str()];
            self.ask("CLIENT", arguments.into_iter(), Question::Woken);
        }
    }

    fn look(&mut self) -> Result<(), SourceError> {
        let silence = self.heard.elapsed();
        // Found silent twice: after a halt of this process what has arrived is to be read first.
        let was_doubted = std::mem::replace(&mut self.is_doubted, silence >= 2 * PING_INTERVAL);
        if was_doubted && self.is_doubted {
            return Err(SourceError::Unresponsive(silence.as_secs()));
        }
        if Instant::now() >= self.next_check && self.asked.is_empty() {
            self.check();
        }
        if silence >= PING_INTERVAL && self.awaited.is_empty() {
            self.ask("PING", [].into_iter(), Question::Pong);
        }
        Ok(())
    }

    /// Asks whether the streams are what they were.
    fn check(&mut self) {
        let names: Vec<ChannelName> = self.group_of.keys().cloned().collect();
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let bytes = std::mem::take(&mut self.checked_bytes);
        #[expect(clippy::cast_precision_loss, reason = "it need not be exact")]
        let for_bytes = Duration::from_secs_f64(bytes as f64 / MAX_CHECKED_BYTES_PER_SECOND);
        let for_count = Duration::from_secs(1) * count / MAX_CHECKS_PER_SECOND;
        self.next_check = Instant::now() + CHECK_INTERVAL.max(for_count).max(for_bytes);
        for name in names {
            self.ask_about(name);
        }
    }

    fn ask_again(&mut self) {
        for name in some_of(&self.refused) {
            self.try_to_read(name);
        }
        if std::mem::take(&mut self.is_past_refused) {
            self.shared.hub.repeat_log_reads();
        }
    }

    fn settle(&self) {
        // One that a client asks for and that is no stream must not take the gateway away from all
        // others; that Redis lets us read none must.
        let is_refused = !self.refused.is_empty() && self.group_of.is_empty();
        self.shared.health.set_log_source_ready(self.has_begun && !is_refused);
    }
}

/// What an answer holds, in bytes, about.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Bulk(bytes) => bytes.len(),
        Value::TooLarge(bytes) => usize::try_from(*bytes).unwrap_or(usize::MAX),
        Value::Array(values) => values.iter().map(bytes_of).fold(0, usize::saturating_add),
        Value::Map(pairs) => {
            pairs.iter().map(|(_, value)| bytes_of(value)).fold(0, usize::saturating_add)
        }
        _ => 0,
    }
}
