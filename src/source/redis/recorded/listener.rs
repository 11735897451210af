//! The connection that listens: to marks, to what is followed, and to what patterns bring.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use ssegate_hub::{ChannelName, LogRange, LogRead, SourceKind, SourceRequest, Subscription};
use ssegate_resp::{Payload, Value};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::state::RecordingState;
use crate::health::Health;
use crate::route::{Router, ServerPlace};
use crate::source::recorded::MARKS;
use crate::source::redis::coalescing::ReadCoalescer;
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::{SourceError, with_others};
use crate::source::redis::pending::{PendingCommands, PubSubCommand};
use crate::source::redis::retry::{RETRY_INTERVAL, sample_to_retry};
use crate::source::redis::session::describe;
use crate::source::redis::silence::{SILENCE_INTERVAL, Silence};

/// One listening connection after its handshake.
pub(super) struct RecordListener {
    connection: RedisConnection,
    state: Rc<RecordingState>,
    health: Health,
    pending: PendingCommands,
    refused: HashSet<Subscription>,
    silence: Silence,
    coalescer: ReadCoalescer,
    // Reads that wait until what was published before has come.
    fenced: HashMap<u64, LogRead>,
    next_fence: u64,
    is_subscribed: bool,
    is_ready: bool,
}

/// Why a listening connection is left.
pub(super) enum ListeningEnd {
    Failed(SourceError),
    /// The followed patterns have changed: everything is subscribed again.
    PatternsChanged,
}

impl RecordListener {
    pub(super) fn new(
        connection: RedisConnection,
        state: Rc<RecordingState>,
        health: Health,
    ) -> Self {
        let now = Instant::now();
        Self {
            connection,
            state,
            health,
            pending: PendingCommands::default(),
            refused: HashSet::new(),
            silence: Silence::new(now),
            coalescer: ReadCoalescer::new(now),
            fenced: HashMap::new(),
            next_fence: 0,
            is_subscribed: false,
            is_ready: false,
        }
    }

    /// Runs until the connection fails or the patterns change. Returns whether everything was subscribed.
    pub(super) async fn run(
        mut self,
        routes: &mut watch::Receiver<Arc<Router>>,
        place: &ServerPlace,
    ) -> (ListeningEnd, bool) {
        let state = Rc::clone(&self.state);
        let end = tokio::select! {
            ended = self.serve() => match ended {
                Err(error) => ListeningEnd::Failed(error),
                Ok(never) => match never {},
            },
            () = patterns_changed(&state, routes, place) => ListeningEnd::PatternsChanged,
        };
        // On the next connection they are placed again.
        self.fenced.into_values().for_each(|call| self.state.hold_unplaced(call));
        (end, self.is_ready)
    }

    async fn serve(&mut self) -> Result<Infallible, SourceError> {
        let marks = ChannelName::new(MARKS).expect("it is short and printable");
        self.subscribe(vec![Subscription { name: marks, is_pattern: false }]);
        let all = self.state.book.borrow().subscriptions();
        self.subscribe(all);
        self.pending.push(PubSubCommand::Resubscribed);
        let hub = self.state.book.borrow().hub.clone();
        let mut liveness = interval(SILENCE_INTERVAL);
        liveness.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                read = self.read() => {
                    read?;
                    self.silence.end(Instant::now());
                    let values = self.handle_batch()?;
                    self.coalescer.record_read(values, Instant::now());
                }
                changes = hub.source_requests(SourceKind::Recorded) => self.apply(changes),
                reads = hub.log_reads(SourceKind::Recorded) => self.place(reads),
                _ = liveness.tick() => {
                    if self.silence.check(Instant::now())? && !self.pending.has_ping() {
                        self.pending.ping(&mut self.connection, None);
                    }
                }
                _ = retry.tick() => self.retry_refused(),
            }
            if self.state.book.borrow().has_mark() {
                let unplaced = self.state.take_unplaced();
                self.place(unplaced.into_iter());
            }
            hub.flush();
            self.state.parts.metrics.recorded_waiting(self.state.book.borrow().held_by_all());
            self.state.touch();
        }
    }

    async fn read(&mut self) -> Result<(), SourceError> {
        if let Some(until) = self.coalescer.read_at() {
            self.connection.pause(until).await?;
        }
        self.connection.exchange().await
    }

    fn handle_batch(&mut self) -> Result<usize, SourceError> {
        let (mut values, mut messages) = (0, 0);
        while let Some(value) = self.connection.next_value()? {
            self.complete();
            messages += u64::from(self.handle(value)?);
            values += 1;
        }
        self.complete();
        if messages > 0 {
            self.state.parts.metrics.source_messages(messages);
        }
        Ok(values)
    }

    /// Reports that recording is ready, once everything that is followed is subscribed and messages get names.
    fn complete(&mut self) {
        self.is_subscribed |= self.pending.take_resubscribed();
        if self.is_subscribed && !self.is_ready && self.state.book.borrow().has_mark() {
            self.is_ready = true;
            self.health.set_recording_ready(true);
        }
    }

    /// Returns whether it was a message.
    fn handle(&mut self, value: Value) -> Result<bool, SourceError> {
        match value {
            Value::Push(parts) => return self.handle_push(parts),
            Value::Error(message) => self.handle_error(String::from_utf8_lossy(&message).into()),
            Value::Simple(_) | Value::Bulk(_) => match self.pending.pop() {
                Some(PubSubCommand::Ping(fence)) => self.pass(fence),
                _ => return Err(SourceError::Unexpected("no command is pending".into())),
            },
            other => return Err(SourceError::Unexpected(format!("{other:?}"))),
        }
        Ok(false)
    }

    /// <https://redis.io/docs/latest/develop/pubsub/#format-of-pushed-messages>
    fn handle_push(&mut self, parts: Vec<Value>) -> Result<bool, SourceError> {
        let mut parts = parts.into_iter();
        let kind = parts.next();
        let kind = kind.as_ref().and_then(Value::as_bytes).map_or(&b""[..], |kind| kind);
        match (kind, parts.next(), parts.next(), parts.next()) {
            (b"message", Some(Value::Bulk(channel)), Some(payload), None) => {
                return self.receive(None, &channel, payload);
            }
            (b"pmessage", Some(Value::Bulk(pattern)), Some(Value::Bulk(name)), Some(payload)) => {
                return self.receive(Some(&pattern), &name, payload);
            }
            (b"subscribe" | b"psubscribe", Some(Value::Bulk(name)), ..) => {
                let subscription = self.pending.take_subscribed(kind == b"psubscribe", &name)?;
                self.refused.remove(&subscription);
                if !self.pending.is_unsubscribing(&subscription) {
                    self.state.book.borrow_mut().confirm(&subscription, Instant::now());
                }
            }
            (b"unsubscribe" | b"punsubscribe", Some(Value::Bulk(name)), ..) => {
                self.pending.take_unsubscribed(kind == b"punsubscribe", &name)?;
            }
            _ => {}
        }
        Ok(false)
    }

    fn receive(
        &self,
        pattern: Option<&[u8]>,
        channel: &[u8],
        payload: Value,
    ) -> Result<bool, SourceError> {
        let payload = Payload::try_from(payload)
            .map_err(|other| SourceError::Unexpected(format!("{other:?}")))?;
        let pattern = pattern.map(str::from_utf8).transpose();
        let (Ok(pattern), Ok(channel)) = (pattern, str::from_utf8(channel)) else {
            return Ok(false);
        };
        let mut book = self.state.book.borrow_mut();
        match (channel == MARKS, &payload) {
            (true, Payload::Whole(text)) if pattern.is_none() => {
                if let Ok(text) = str::from_utf8(text) {
                    book.receive_mark(text, Instant::now());
                }
                Ok(false)
            }
            (true, _) => Ok(false),
            (false, payload) => {
                book.receive(pattern, channel, payload, self.silence.last_read());
                Ok(true)
            }
        }
    }

    /// Handles an error reply: one denied name fails the whole command, so its names are retried one by one.
    fn handle_error(&mut self, message: String) {
        let error = SourceError::Refused(message);
        let mut names = match self.pending.pop() {
            Some(PubSubCommand::Subscribe(names)) => names,
            command => {
                if let Some(PubSubCommand::Ping(fence)) = command {
                    self.pass(fence);
                }
                return self.state.parts.report(&error, "Redis refused a command");
            }
        };
        if names.len() > 1 {
            names.into_iter().for_each(|name| self.subscribe(vec![name]));
            self.pending.delay_resubscribed();
        } else if let Some(name) = names.pop_front() {
            self.refused.insert(name.clone());
            let error = error.for_command(with_others(describe(&name), self.refused.len() - 1));
            let (parts, what) = (&self.state.parts, "Redis refused a subscription");
            match name.name.as_str() == MARKS && !name.is_pattern {
                true => parts.report_refusal(&error, what, false),
                false => parts.report(&error, what),
            }
        }
    }

    fn retry_refused(&mut self) {
        if !self.pending.has_subscribe() {
            let known: HashSet<_> = self.state.book.borrow().subscriptions().into_iter().collect();
            self.refused.retain(|one| known.contains(one) || one.name.as_str() == MARKS);
            for subscription in sample_to_retry(&self.refused) {
                self.subscribe(vec![subscription]);
            }
        }
    }

    fn apply(&mut self, changes: impl Iterator<Item = (Subscription, SourceRequest)>) {
        let (mut follow, mut leave) = (Vec::new(), Vec::new());
        let mut book = self.state.book.borrow_mut();
        for (subscription, request) in changes {
            match request {
                SourceRequest::Follow if book.follow(&subscription.name) => {
                    follow.push(subscription)
                }
                SourceRequest::Leave if book.leave(&subscription.name) => leave.push(subscription),
                _ => {}
            }
        }
        drop(book);
        self.pending.unsubscribe(&mut self.connection, leave);
        self.subscribe(follow);
    }

    /// Begins the reads that can be placed. Others first wait until everything published before has come.
    fn place(&mut self, reads: impl Iterator<Item = LogRead>) {
        for call in reads {
            let is_placed = match call.range {
                LogRange::After { after, until } => {
                    after < until || self.state.book.borrow().has_come(after)
                }
                LogRange::BeforeNewest(_) => true,
            };
            if is_placed {
                self.state.read_past(call, Instant::now());
            } else if !self.state.book.borrow().has_mark() {
                // Before the first mark, every id looks like one of another Redis.
                self.state.hold_unplaced(call);
            } else {
                self.next_fence += 1;
                self.fenced.insert(self.next_fence, call);
                self.pending.ping(&mut self.connection, Some(self.next_fence));
            }
        }
    }

    fn pass(&mut self, fence: Option<u64>) {
        if let Some(call) = fence.and_then(|fence| self.fenced.remove(&fence)) {
            self.state.read_past(call, Instant::now());
        }
    }

    fn subscribe(&mut self, subscriptions: Vec<Subscription>) {
        self.pending.subscribe(&mut self.connection, subscriptions);
    }
}

/// Waits until a reload has changed the followed patterns.
async fn patterns_changed(
    state: &RecordingState,
    routes: &mut watch::Receiver<Arc<Router>>,
    place: &ServerPlace,
) {
    let patterns = |routes: &Router| routes.recorded_patterns(place);
    while patterns(&routes.borrow_and_update()) == state.book.borrow().patterns {
        if routes.changed().await.is_err() {
            // The gateway stops.
            return std::future::pending().await;
        }
    }
}
