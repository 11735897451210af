//! Asks again, while streams and tunnels are open, whether their clients may still have them.
//!
//! A refusal, or a permission for another client, ends the stream with a `retry`: the cookie that opened it may
//! have been replaced since, and the client's return decides. Where there is no verdict the stream stays open for
//! the grace. The streams of a shard have one queue, so that a stream costs nothing until it is due: only a
//! question that is being asked has a task.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::{CloseReason, StreamKey, TimedStreams};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::auth_question::AuthQuestion;
use crate::auth::Verdict;

/// How soon a question without a verdict is asked again, at most.
const RETRY: Duration = Duration::from_secs(15);

/// The questions of one shard that are asked again. A cheap handle.
#[derive(Clone)]
pub(super) struct Rechecks(Rc<TimedStreams<Rc<RecheckedStream>>>);

/// A question in [`Rechecks`]. It is not asked any more when this is dropped.
#[must_use]
pub(super) struct Recheck {
    rechecks: Rechecks,
    key: StreamKey,
}

/// An open stream, and the question that decides whether it stays open.
struct RecheckedStream {
    question: Rc<AuthQuestion>,
    every: Duration,
    end: Rc<dyn Fn(CloseReason)>,
    key: OnceCell<StreamKey>,
    // When there was a verdict.
    decided: Cell<Instant>,
    // The task that asks now. Aborted when the stream leaves.
    asking: RefCell<Option<JoinHandle<()>>>,
}

impl Rechecks {
    pub(super) fn new() -> Self {
        Self(Rc::new(TimedStreams::new(Instant::now())))
    }

    /// Asks `question` again and again, and calls `end` when the stream has to end. `None` if the backend is not
    /// to be asked again.
    pub(super) fn insert(
        &self,
        question: Rc<AuthQuestion>,
        end: Rc<dyn Fn(CloseReason)>,
    ) -> Option<Recheck> {
        let every = question.backend().recheck?;
        let now = Instant::now();
        let stream = Rc::new(RecheckedStream {
            question,
            every,
            end,
            key: OnceCell::new(),
            decided: Cell::new(now),
            asking: RefCell::default(),
        });
        // Up to a quarter earlier: streams that were opened together do not ask together.
        let first = now + every.mul_f64(1.0 - fastrand::f64() / 4.0);
        let key = self.0.insert(Rc::clone(&stream), first);
        stream.key.get_or_init(|| key);
        Some(Recheck { rechecks: self.clone(), key })
    }

    /// Asks what is due. Called every [`TIMER_TICK`](ssegate_hub::TIMER_TICK).
    pub(super) fn ask_due(&self, now: Instant) {
        self.0.visit_due(now, |stream| {
            let (this, asked) = (self.clone(), Rc::clone(stream));
            let task = tokio::task::spawn_local(async move {
                let verdict = asked.question.ask_again().await;
                this.decide(&asked, verdict);
            });
            stream.asking.replace(Some(task));
            // The task says when.
            None
        });
    }

    /// Ends the stream, or says when its question is asked again.
    fn decide(&self, stream: &RecheckedStream, verdict: Verdict) {
        stream.asking.take();
        let now = Instant::now();
        match stream.next(verdict, now) {
            Some(wait) => {
                let key = stream.key.get().expect("set by `insert`");
                self.0.schedule(*key, now + wait);
            }
            None => (stream.end)(CloseReason::Revoked),
        }
    }
}

impl RecheckedStream {
    /// How long to wait until the question is asked again; `None` if the stream has to end.
    fn next(&self, verdict: Verdict, now: Instant) -> Option<Duration> {
        let grace = self.question.backend().recheck_grace;
        let left = grace.saturating_sub(now.saturating_duration_since(self.decided.get()));
        match verdict {
            Verdict::Allowed(fields) if self.question.is_same_client(&fields) => {
                self.decided.set(now);
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

impl Drop for Recheck {
    fn drop(&mut self) {
        let stream = self.rechecks.0.remove(self.key);
        // The task owns the stream, too.
        if let Some(task) = stream.asking.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Rechecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rechecks").field("streams", &self.0.len()).finish()
    }
}

impl fmt::Debug for Recheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recheck").field("key", &self.key).finish_non_exhaustive()
    }
}
