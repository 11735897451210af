//! What authentication keeps for an open stream.

use ssegate_hub::CloseReason;

use super::auth_backends::AuthQuestion;
use super::recheck::{self, Recheck};
use crate::auth::QuotaGuard;

/// What authentication keeps for an open stream, until that is dropped.
#[derive(Debug, Default)]
pub(super) struct StreamGuard {
    // Makes room for another stream of the same identity.
    _quota: Option<QuotaGuard>,
    questions: Vec<AuthQuestion>,
    rechecks: Vec<Recheck>,
}

impl StreamGuard {
    /// The guard of a stream whose auth backends are asked `questions` again; `None` if there is nothing to
    /// keep.
    pub(super) fn new(quota: Option<QuotaGuard>, questions: &[AuthQuestion]) -> Option<Box<Self>> {
        let is_needed = quota.is_some() || !questions.is_empty();
        let questions = questions.to_vec();
        is_needed.then(|| Box::new(Self { _quota: quota, questions, rechecks: Vec::new() }))
    }

    /// The stream is open: `end` ends it.
    pub(super) fn watch(&mut self, end: impl Fn(CloseReason) + Clone + 'static) {
        let questions = self.questions.drain(..);
        self.rechecks =
            questions.filter_map(|question| recheck::start(question, end.clone())).collect();
    }
}
