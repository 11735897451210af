//! The connection that sends scripts: appends, publishes marks, and reads the past.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::{ChannelName, EntryId, LogRange};
use ssegate_record::{AppendAnswer, AppendRequest, LogItem};
use ssegate_resp::Value;
use tokio::time::{Instant, sleep_until};

use super::RecordingState;
use super::book::MAX_AHEAD;
use super::channel::{RecordedPayload, entry_id, record_id};
use super::past::{PastRead, ReadPast, parse_newest};
use super::script::{APPEND, MARK, NEWEST, READ};
use crate::source::recorded::MARKS;
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::{SourceError, SourceErrorKind};
use crate::source::redis::script::{RedisScript, is_unknown};

/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether anything is due, while anything waits.
const TICK: Duration = Duration::from_millis(20);
/// Reads on their way, at most.
const MAX_READS: usize = 32;
/// Bytes that wait to be written, at most: then Redis is too slow, and what comes waits in the recorders.
const MAX_UNSENT: usize = 4 << 20;

/// One connection for scripts after its handshake.
pub(super) struct RecordWriter {
    connection: RedisConnection,
    state: Rc<RecordingState>,
    pending: VecDeque<ScriptCall>,
    reads_in_flight: usize,
    // When the oldest reply is due.
    deadline: Option<Instant>,
}

/// A script whose reply is pending.
struct ScriptCall {
    script: &'static RedisScript,
    has_text: bool,
    key: String,
    arguments: Vec<Bytes>,
    what: CallPurpose,
}

enum CallPurpose {
    Append(ChannelName),
    Mark,
    Past(PastRead),
}

impl RecordWriter {
    pub(super) fn new(connection: RedisConnection, state: Rc<RecordingState>) -> Self {
        let (pending, reads_in_flight, deadline) = (VecDeque::new(), 0, None);
        Self { connection, state, pending, reads_in_flight, deadline }
    }

    /// Runs until the connection fails. Returns the error, and whether Redis had replied.
    pub(super) async fn run(mut self) -> (SourceError, bool) {
        let mut has_replied = false;
        let Err(error) = self.serve(&mut has_replied).await;
        let mut book = self.state.book.borrow_mut();
        for call in self.pending {
            match call.what {
                CallPurpose::Append(name) => book.failed(&name, false, Instant::now()),
                CallPurpose::Mark => {
                    book.mark_failed(mark_text(&call.arguments), false, Instant::now())
                }
                CallPurpose::Past(read) => book.reads.push(read),
            }
        }
        (error, has_replied)
    }

    async fn serve(&mut self, has_replied: &mut bool) -> Result<Infallible, SourceError> {
        let state = Rc::clone(&self.state);
        let mut is_closing = false;
        loop {
            self.send_due();
            if is_closing && state.book.borrow().is_closed() {
                state.end.finish();
            }
            let wake = self.wake_at();
            tokio::select! {
                read = self.connection.exchange() => {
                    read?;
                    self.handle_replies()?;
                    *has_replied = true;
                    state.flush();
                }
                () = state.work.notified() => {}
                () = state.end.asked(), if !is_closing => {
                    is_closing = true;
                    state.book.borrow_mut().close(Instant::now());
                }
                () = sleep_until(wake) => {
                    if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                        return Err(SourceError::Timeout(REPLY_TIMEOUT.as_secs()));
                    }
                }
            }
        }
    }

    /// When something may be due.
    fn wake_at(&self) -> Instant {
        let (now, book) = (Instant::now(), self.state.book.borrow());
        let is_waiting = book.is_active() || !book.reads.is_empty();
        let tick = if is_waiting { now + TICK } else { now + REPLY_TIMEOUT };
        // A mark that cannot be sent yet is no reason to wake.
        let mark_due = book.mark_due().filter(|_| !self.is_behind());
        [mark_due, self.deadline].into_iter().flatten().fold(tick, Instant::min)
    }

    /// Whether so much waits to be written that nothing is added.
    fn is_behind(&self) -> bool {
        self.connection.unsent_bytes() > MAX_UNSENT
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        if self.is_behind() {
            return;
        }
        let mark = self.state.book.borrow_mut().take_mark(now);
        if let Some((floor, text)) = mark {
            let arguments = vec![
                Bytes::from_static(MARKS.as_bytes()),
                floor.to_string().into(),
                text.into(),
                MAX_AHEAD.to_string().into(),
            ];
            self.call(&MARK, self.state.settings.mark_key(), arguments, CallPurpose::Mark);
        }
        let requests = self.state.book.borrow_mut().requests(now);
        for (name, request) in requests {
            let (key, arguments) = (self.key(&name), self.append_arguments(&request));
            self.call(&APPEND, key, arguments, CallPurpose::Append(name));
        }
        self.send_reads(now);
    }

    fn send_reads(&mut self, now: Instant) {
        let room = MAX_READS - self.reads_in_flight.min(MAX_READS);
        let due: Vec<PastRead> = {
            let mut book = self.state.book.borrow_mut();
            let due = book.reads.extract_if(.., |read| read.not_before <= now);
            due.take(room).collect()
        };
        for read in due {
            let script: &'static RedisScript = match read.range {
                LogRange::After { .. } => &READ,
                LogRange::BeforeNewest(_) => &NEWEST,
            };
            self.reads_in_flight += 1;
            let (key, arguments) = (self.key(&read.channel), read.arguments());
            self.call(script, key, arguments, CallPurpose::Past(read));
        }
    }

    fn key(&self, name: &ChannelName) -> String {
        self.state.settings.log_key(name.as_str())
    }

    fn append_arguments(&self, request: &AppendRequest<RecordedPayload>) -> Vec<Bytes> {
        let settings = &self.state.settings;
        let may_gap = if request.may_gap { "1" } else { "0" };
        let mut arguments: Vec<Bytes> = vec![
            entry_id(request.since).to_string().into(),
            Bytes::from_static(may_gap.as_bytes()),
            settings.count.to_string().into(),
            settings.age.as_millis().to_string().into(),
        ];
        for (id, item) in &request.items {
            let (kind, payload) = match item {
                LogItem::Message(RecordedPayload::Whole(payload)) => ("m", payload.clone()),
                LogItem::Message(RecordedPayload::TooLarge) => ("l", Bytes::new()),
                LogItem::Seal => ("s", Bytes::new()),
            };
            let id = entry_id(*id).to_string();
            arguments.extend([id.into(), Bytes::from_static(kind.as_bytes()), payload]);
        }
        arguments
    }

    fn call(
        &mut self,
        script: &'static RedisScript,
        key: String,
        arguments: Vec<Bytes>,
        what: CallPurpose,
    ) {
        self.send(ScriptCall { script, has_text: false, key, arguments, what });
    }

    fn send(&mut self, call: ScriptCall) {
        let key = Bytes::copy_from_slice(call.key.as_bytes());
        let arguments = std::iter::once(key).chain(call.arguments.iter().cloned());
        self.connection.queue_bytes(&call.script.call(call.has_text, 1, arguments));
        self.pending.push_back(call);
        self.deadline.get_or_insert_with(|| Instant::now() + REPLY_TIMEOUT);
    }

    fn handle_replies(&mut self) -> Result<(), SourceError> {
        while let Some(value) = self.connection.next_value()? {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let Some(call) = self.pending.pop_front() else {
                return Err(SourceError::Unexpected(format!("{value:?}")));
            };
            let is_idle = self.pending.is_empty();
            self.deadline = (!is_idle).then(|| Instant::now() + REPLY_TIMEOUT);
            match value {
                Value::Error(message) => {
                    self.handle_error(call, String::from_utf8_lossy(&message).into_owned())?;
                }
                reply => self.handle(call, &reply)?,
            }
        }
        Ok(())
    }

    fn handle(&mut self, call: ScriptCall, reply: &Value) -> Result<(), SourceError> {
        let malformed = |name: &str| SourceError::Unexpected(format!("invalid reply of {name}"));
        let now = Instant::now();
        match call.what {
            CallPurpose::Mark => {
                let time = redis_time(reply).ok_or_else(|| malformed("mark.lua"))?;
                self.state.book.borrow_mut().note_redis_time(time);
            }
            CallPurpose::Append(name) => {
                let (answer, added, gaps) = answer(reply).ok_or_else(|| malformed("append.lua"))?;
                let metrics = &self.state.metrics;
                metrics.recorded_appended(added, gaps);
                let mut book = self.state.book.borrow_mut();
                book.answered(&name, answer, now);
                metrics.recorded_waiting(book.held_bytes());
            }
            CallPurpose::Past(read) => {
                self.reads_in_flight = self.reads_in_flight.saturating_sub(1);
                match read.range {
                    LogRange::After { after, until } => {
                        let (_, past) = ReadPast::parse(reply, (after, until))
                            .ok_or_else(|| malformed("read.lua"))?;
                        self.state.finish_past(read, past, now);
                    }
                    LogRange::BeforeNewest(_) => {
                        let start = parse_newest(reply).ok_or_else(|| malformed("newest.lua"))?;
                        self.state.finish_newest(read, start);
                    }
                }
            }
        }
        Ok(())
    }

    fn handle_error(&mut self, call: ScriptCall, message: String) -> Result<(), SourceError> {
        if is_unknown(&message) && !call.has_text {
            self.send(ScriptCall { has_text: true, ..call });
            return Ok(());
        }
        let what = match &call.what {
            CallPurpose::Append(name) => format!("to record the channel {name:?}"),
            CallPurpose::Mark => "to publish a mark for recorded channels".to_owned(),
            CallPurpose::Past(read) => format!("to read what was recorded of {:?}", read.channel),
        };
        let error = SourceError::Refused(message).for_command(what);
        if matches!(error.kind(), SourceErrorKind::Auth | SourceErrorKind::Busy) {
            self.pending.push_front(call);
            return Err(error);
        }
        self.state.report(&error, "Redis refused a script of recorded channels");
        let now = Instant::now();
        match call.what {
            CallPurpose::Append(name) => self.state.book.borrow_mut().failed(&name, true, now),
            CallPurpose::Mark => {
                let text = mark_text(&call.arguments);
                self.state.book.borrow_mut().mark_failed(text, true, now);
            }
            CallPurpose::Past(read) => {
                self.reads_in_flight = self.reads_in_flight.saturating_sub(1);
                self.state.finish_past(read, None, now);
            }
        }
        Ok(())
    }
}

/// What stands behind the mark that a call publishes.
fn mark_text(arguments: &[Bytes]) -> &str {
    arguments.get(2).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
}

/// Parses the reply of the script that publishes a mark: the clock of Redis, in milliseconds since 1970.
fn redis_time(reply: &Value) -> Option<u64> {
    let Value::Array(parts) = reply else { return None };
    let [_, Value::Integer(time)] = &parts[..] else { return None };
    u64::try_from(*time).ok()
}

/// Parses the reply of the script that appends: the answer, how many entries were added, and of them gaps.
fn answer(reply: &Value) -> Option<(AppendAnswer, u64, u64)> {
    let Value::Array(parts) = reply else { return None };
    let [top, Value::Integer(is_missing), Value::Integer(added), Value::Integer(gaps)] = &parts[..]
    else {
        return None;
    };
    let top = record_id(EntryId::parse(top.as_bytes()?)?);
    let answer = AppendAnswer { top, is_missing: *is_missing == 1 };
    Some((answer, u64::try_from(*added).ok()?, u64::try_from(*gaps).ok()?))
}
