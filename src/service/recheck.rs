//! Asks again, while a stream is open, whether its client may still listen.
//!
//! A refusal, or a permission for another client, ends the stream with a `retry`: the cookie that opened it may
//! have been replaced since, and the client's return decides. Where there is no verdict the stream stays open for the grace.

use std::time::Duration;

use ssegate_hub::CloseReason;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::auth_backends::AuthQuestion;
use crate::auth::Verdict;

/// How soon a question without a verdict is asked again, at most.
const RETRY: Duration = Duration::from_secs(15);

/// The task that asks again; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Recheck(JoinHandle<()>);

impl Drop for Recheck {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks `question` again and again, and calls `end` when the stream has to end. `None` if the backend is not
/// to be asked again.
pub(super) fn start(
    question: AuthQuestion,
    end: impl Fn(CloseReason) + 'static,
) -> Option<Recheck> {
    let every = question.backend().recheck?;
    let grace = question.backend().recheck_grace;
    Some(Recheck(tokio::task::spawn_local(async move {
        let mut decided = Instant::now();
        // Up to a quarter earlier: streams that were opened together do not ask together.
        let mut wait = every.mul_f64(1.0 - fastrand::f64() / 4.0);
        loop {
            sleep(wait).await;
            match question.ask_again().await {
                Verdict::Allowed(fields) if question.is_same_client(&fields) => {
                    (decided, wait) = (Instant::now(), every);
                }
                Verdict::Allowed(_) | Verdict::Refused(_) => break,
                Verdict::NotNow(_) if decided.elapsed() >= grace => break,
                Verdict::NotNow(_) => {
                    let left = grace.saturating_sub(decided.elapsed());
                    wait = every.min(RETRY).min(left).max(Duration::from_millis(100));
                }
            }
        }
        end(CloseReason::Revoked);
    })))
}
