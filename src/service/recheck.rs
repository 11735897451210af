//! Asks again, while streams and tunnels are open, whether their clients may still have them.
//!
//! A refusal, or a permission for another client, ends the stream with a `retry`: the cookie that opened it may
//! have been replaced since, so the reconnecting client is verified again. Without a verdict the stream stays
//! open for the grace. The streams of a shard have one queue, so that a stream costs nothing until it is due:
//! only a question in flight has a task.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::{CloseReason, TimedStreams};
use tokio::time::Instant;

use super::auth_question::AuthQuestion;
use super::stream_stopper::StreamStopper;
use crate::auth::Verdict;

/// How soon a question without a verdict is asked again, at most.
const RETRY: Duration = Duration::from_secs(15);

/// The questions of one shard that are asked again. A cheap handle.
#[derive(Clone)]
pub(super) struct Rechecks(Rc<TimedStreams<RecheckedStream>>);

/// An open stream, and the question that decides whether it stays open.
#[derive(Clone)]
struct RecheckedStream {
    question: Rc<AuthQuestion>,
    every: Duration,
    stopper: StreamStopper,
}

impl Rechecks {
    pub(super) fn new() -> Self {
        Self(Rc::new(TimedStreams::new(Instant::now())))
    }

    /// Asks `question` periodically until it is removed, if its backend is to be asked again. `stopper` ends the
    /// stream when it has to end.
    pub(super) fn insert(&self, question: &Rc<AuthQuestion>, stopper: StreamStopper) {
        let Some(every) = question.backend().recheck else { return };
        // Up to a quarter earlier: streams that were opened together do not ask together.
        let earlier = every / 1024 * fastrand::u32(..256);
        let first = question.decided.get() + (every - earlier);
        let stream = RecheckedStream { question: Rc::clone(question), every, stopper };
        question.place.set(Some(self.0.insert(stream, first)));
    }

    /// Removes `question`, if it is here.
    pub(super) fn remove(&self, question: &AuthQuestion) {
        if let Some(place) = question.place.take() {
            drop(self.0.remove(place));
        }
    }

    /// Asks the questions that are due. Called every [`TIMER_TICK`](ssegate_hub::TIMER_TICK).
    pub(super) fn ask_due(&self, now: Instant) {
        self.0.visit_due(now, |stream| {
            let (this, question) = (self.clone(), Rc::clone(&stream.question));
            drop(tokio::task::spawn_local(async move {
                let verdict = question.ask_again().await;
                this.decide(&question, verdict);
            }));
            // The task schedules the next question.
            None
        });
    }

    /// Ends the stream, or schedules its question again. Does nothing if the stream has ended meanwhile.
    fn decide(&self, question: &AuthQuestion, verdict: Verdict) {
        let Some(place) = question.place.get() else { return };
        let Some(stream) = self.0.get(place) else { return };
        let now = Instant::now();
        match stream.next(verdict, now) {
            Some(wait) => self.0.schedule(place, now + wait),
            None => stream.stopper.stop(CloseReason::Revoked),
        }
    }
}

impl RecheckedStream {
    /// How long to wait before the question is asked again; `None` if the stream has to end.
    fn next(&self, verdict: Verdict, now: Instant) -> Option<Duration> {
        let grace = self.question.backend().recheck_grace;
        let left = grace.saturating_sub(now.saturating_duration_since(self.question.decided.get()));
        match verdict {
            Verdict::Allowed(fields) if self.question.is_same_client(&fields) => {
                self.question.decided.set(now);
                Some(self.every)
            }
            Verdict::Allowed(_) | Verdict::Refused(_) => None,
            Verdict::NotNow(_) if left.is_zero() => None,
            Verdict::NotNow(_) => {
                Some(self.every.min(RETRY).min(left).max(Duration::from_millis(100)))
            }
        }
    }
}

impl fmt::Debug for Rechecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rechecks").field("streams", &self.0.len()).finish()
    }
}
