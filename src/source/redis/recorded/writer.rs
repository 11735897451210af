//! The connections that send scripts: append, publish marks, and read the past.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::{ChannelName, LogRange};
use ssegate_resp::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::book::MAX_AHEAD;
use super::past::{PastRead, ReadPast, parse_newest};
use super::script::{
    APPEND, MARK, NEWEST, READ, append_answer, append_arguments, mark_text, redis_time,
};
use super::state::{RecordStates, RecordingParts, RecordingState};
use super::wakes::RecordDue;
use crate::source::recorded::RecordingEnd;
use crate::source::redis::error::{SourceError, SourceErrorKind};
use crate::source::redis::keyed_pipeline::KeyedPipeline;
use crate::source::redis::retry::backoff;
use crate::source::redis::script::{RedisScript, is_unknown};
use crate::source::redis::server::RedisServer;

/// How often due requests are looked for, while anything waits.
const TICK: Duration = Duration::from_millis(20);
/// Reads on their way, at most.
const MAX_READS: usize = 32;
/// The most bytes that wait to be written to a node. Beyond them Redis is too slow, and messages wait in the recorders.
const MAX_UNSENT: usize = 4 << 20;

/// The connection for scripts after its handshake; in a Cluster one to each node.
struct RecordWriter {
    pipeline: KeyedPipeline<ScriptCall>,
    states: Rc<RecordStates>,
    parts: RecordingParts,
    due: RecordDue,
    reads_in_flight: usize,
}

/// A script whose reply is pending.
struct ScriptCall {
    state: Rc<RecordingState>,
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

/// Logged when a node is back.
const IS_BACK: &str = "connected again to a node that records channels";

/// Sends scripts for ever, about the orders that are in `states`.
pub(in super::super) async fn write(
    server: RedisServer,
    max_event_bytes: usize,
    states: Rc<RecordStates>,
    (parts, end): (RecordingParts, RecordingEnd),
) {
    let mut attempt = 0;
    loop {
        match KeyedPipeline::open(&server, max_event_bytes, Some(IS_BACK)).await {
            Ok(pipeline) => {
                let writer = RecordWriter::new(pipeline, Rc::clone(&states), parts.clone());
                let (error, has_replied) = writer.run(&end).await;
                if has_replied {
                    attempt = 0;
                }
                parts.report(&error, "lost the connection to Redis that records channels");
            }
            Err(error) => {
                parts.report(&error, "cannot connect to Redis to record channels; retrying");
            }
        }
        sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

impl RecordWriter {
    fn new(
        pipeline: KeyedPipeline<ScriptCall>,
        states: Rc<RecordStates>,
        parts: RecordingParts,
    ) -> Self {
        let due = RecordDue::default();
        states.all().iter().for_each(|state| state.touch());
        Self { pipeline, states, parts, due, reads_in_flight: 0 }
    }

    /// Runs until the connection fails. Returns the error, and whether Redis had replied.
    async fn run(mut self, end: &RecordingEnd) -> (SourceError, bool) {
        let mut has_replied = false;
        let Err(error) = self.serve(end, &mut has_replied).await;
        self.pipeline.into_pending().into_iter().for_each(ScriptCall::give_back);
        (error, has_replied)
    }

    async fn serve(
        &mut self,
        end: &RecordingEnd,
        has_replied: &mut bool,
    ) -> Result<Infallible, SourceError> {
        let mut is_closing = false;
        loop {
            self.send_due(Instant::now());
            if is_closing && self.states.all().iter().all(|state| state.book.borrow().is_closed()) {
                end.finish();
            }
            let wake = self.due.next();
            tokio::select! {
                exchanged = self.pipeline.exchange() => {
                    let (done, failure) = exchanged?;
                    *has_replied |= !done.is_empty();
                    if let Some(failure) = failure {
                        let what = "lost the connection to a node that records channels";
                        self.parts.lost(&failure.error, what, failure.loss);
                    }
                    self.complete_all(done)?;
                    self.parts.hub.flush();
                }
                () = self.parts.wakes.touched() => {}
                () = end.asked(), if !is_closing => {
                    is_closing = true;
                    for state in self.states.all() {
                        state.book.borrow_mut().close(Instant::now());
                        state.touch();
                    }
                }
                () = async {
                    match wake {
                        Some(wake) => sleep_until(wake).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Sends what is due, of the orders that may have something.
    fn send_due(&mut self, now: Instant) {
        let mut numbers: BTreeSet<u16> = self.parts.wakes.take();
        numbers.extend(self.due.take(now));
        for number in numbers {
            let next = self.states.get(number).map(|state| self.send_due_of(&state, now));
            self.due.set(number, next.flatten());
        }
    }

    /// Sends what is due of one order. Returns when something may be due again.
    fn send_due_of(&mut self, state: &Rc<RecordingState>, now: Instant) -> Option<Instant> {
        let settings = &self.parts.settings;
        let mark_key = state.order.mark_key(settings);
        if self.pipeline.unsent_bytes(&mark_key) > MAX_UNSENT {
            return Some(now + TICK);
        }
        let mark = state.book.borrow_mut().take_mark(now);
        if let Some((floor, text)) = mark {
            let kind = if state.order.is_sharded() { "s" } else { "" };
            let arguments = vec![
                state.order.marks().into(),
                floor.to_string().into(),
                text.into(),
                MAX_AHEAD.to_string().into(),
                Bytes::from_static(kind.as_bytes()),
            ];
            self.call(state, &MARK, mark_key, (arguments, CallPurpose::Mark));
        }
        let requests = state.book.borrow_mut().requests(now);
        for (name, request) in requests {
            let key = state.order.log_key(&self.parts.settings, &name);
            let arguments = append_arguments(&self.parts.settings, &request);
            self.call(state, &APPEND, key, (arguments, CallPurpose::Append(name)));
        }
        self.send_reads(state, now);
        let book = state.book.borrow();
        let is_waiting = book.is_active() || book.has_reads();
        book.mark_due().into_iter().chain(is_waiting.then_some(now + TICK)).min()
    }

    fn send_reads(&mut self, state: &Rc<RecordingState>, now: Instant) {
        let room = MAX_READS - self.reads_in_flight.min(MAX_READS);
        let due = state.book.borrow_mut().take_reads(room, now);
        for read in due {
            let script: &'static RedisScript = match read.range {
                LogRange::After { .. } => &READ,
                LogRange::BeforeNewest(_) => &NEWEST,
            };
            self.reads_in_flight += 1;
            let key = state.order.log_key(&self.parts.settings, &read.channel);
            let arguments = read.arguments();
            self.call(state, script, key, (arguments, CallPurpose::Past(read)));
        }
    }

    fn call(
        &mut self,
        state: &Rc<RecordingState>,
        script: &'static RedisScript,
        key: String,
        (arguments, what): (Vec<Bytes>, CallPurpose),
    ) {
        let state = Rc::clone(state);
        self.send(ScriptCall { state, script, has_text: false, key, arguments, what });
    }

    fn send(&mut self, call: ScriptCall) {
        let key = call.key.clone();
        let first = Bytes::copy_from_slice(key.as_bytes());
        let arguments = std::iter::once(first).chain(call.arguments.iter().cloned());
        let words = call.script.call(call.has_text, 1, arguments);
        self.pipeline.send(call, &key, words);
    }

    /// Takes replies; `None`: there is none, and the script may have been executed.
    fn complete_all(&mut self, done: Vec<(ScriptCall, Option<Value>)>) -> Result<(), SourceError> {
        let mut done = done.into_iter();
        while let Some((call, reply)) = done.next() {
            if let CallPurpose::Past(_) = &call.what {
                self.reads_in_flight = self.reads_in_flight.saturating_sub(1);
            }
            call.state.touch();
            let completed = match reply {
                None => {
                    call.give_back();
                    Ok(())
                }
                Some(Value::Error(message)) => {
                    self.complete_error(call, String::from_utf8_lossy(&message).into_owned())
                }
                Some(reply) => self.complete(call, &reply),
            };
            if let Err(error) = completed {
                done.for_each(|(call, _)| call.give_back());
                return Err(error);
            }
        }
        Ok(())
    }

    fn complete(&self, call: ScriptCall, reply: &Value) -> Result<(), SourceError> {
        let (now, state) = (Instant::now(), Rc::clone(&call.state));
        match &call.what {
            CallPurpose::Mark => {
                let Some(time) = redis_time(reply) else { return self.fail(call, "mark.lua") };
                state.book.borrow_mut().note_redis_time(time);
            }
            CallPurpose::Append(name) => {
                let Some((answer, added, gaps)) = append_answer(reply) else {
                    return self.fail(call, "append.lua");
                };
                let metrics = &self.parts.metrics;
                metrics.recorded_appended(added, gaps);
                let mut book = state.book.borrow_mut();
                book.answered(name, answer, now);
                metrics.recorded_waiting(book.held_by_all());
            }
            CallPurpose::Past(read) => match read.range {
                LogRange::After { after, until } => {
                    let Some((_, past)) = ReadPast::parse(reply, (after, until)) else {
                        return self.fail(call, "read.lua");
                    };
                    if let CallPurpose::Past(read) = call.what {
                        state.finish_past(read, past, now);
                    }
                }
                LogRange::BeforeNewest(_) => {
                    let Some(start) = parse_newest(reply) else {
                        return self.fail(call, "newest.lua");
                    };
                    if let CallPurpose::Past(read) = call.what {
                        state.finish_newest(read, start);
                    }
                }
            },
        }
        Ok(())
    }

    fn complete_error(&mut self, call: ScriptCall, message: String) -> Result<(), SourceError> {
        if is_unknown(&message) && !call.has_text {
            if let CallPurpose::Past(_) = &call.what {
                self.reads_in_flight += 1;
            }
            self.send(ScriptCall { has_text: true, ..call });
            return Ok(());
        }
        let what = match &call.what {
            CallPurpose::Append(name) => format!("to record the channel {:?}", name.in_redis()),
            CallPurpose::Mark => "to publish a mark for recorded channels".to_owned(),
            CallPurpose::Past(read) => {
                format!("to read what was recorded of {:?}", read.channel.in_redis())
            }
        };
        let error = SourceError::Refused(message).for_command(what);
        let is_lost = matches!(error.kind(), SourceErrorKind::Auth | SourceErrorKind::Busy);
        if is_lost && self.pipeline.is_one_server() {
            call.give_back();
            return Err(error);
        }
        let what = "Redis refused a script of recorded channels";
        self.parts.report_refusal(&error, what, call.state.order.is_sharded());
        call.refuse();
        Ok(())
    }

    /// A reply is malformed: one connection is given up.
    fn fail(&self, call: ScriptCall, script: &str) -> Result<(), SourceError> {
        let error = SourceError::Unexpected(format!("invalid reply of {script}"));
        if self.pipeline.is_one_server() {
            call.give_back();
            return Err(error);
        }
        self.parts.report(&error, "Redis refused a script of recorded channels");
        call.refuse();
        Ok(())
    }
}

impl ScriptCall {
    /// Makes the call due again after a lost reply. The script may have been executed.
    fn give_back(self) {
        let mut book = self.state.book.borrow_mut();
        match self.what {
            CallPurpose::Append(name) => book.failed(&name, false, Instant::now()),
            CallPurpose::Mark => {
                book.mark_failed(mark_text(&self.arguments), false, Instant::now());
            }
            CallPurpose::Past(read) => book.add_read(read),
        }
    }

    /// Makes the call due again after a while: Redis has refused it.
    fn refuse(self) {
        let now = Instant::now();
        match self.what {
            CallPurpose::Append(name) => self.state.book.borrow_mut().failed(&name, true, now),
            CallPurpose::Mark => {
                let text = mark_text(&self.arguments);
                self.state.book.borrow_mut().mark_failed(text, true, now);
            }
            CallPurpose::Past(read) => self.state.finish_past(read, None, now),
        }
    }
}
