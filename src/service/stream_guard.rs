//! What authentication keeps for an open stream.

use std::rc::Rc;

use ssegate_hub::{ChannelName, CloseReason};

use super::auth_backends::AuthQuestion;
use super::recheck::{self, Recheck};
use super::revocable::RevocableRequest;
use crate::auth::QuotaGuard;

/// What authentication keeps for an open stream, until that is dropped.
#[derive(Debug, Default)]
pub(super) struct StreamGuard {
    // Makes room for another stream of the same identity.
    _quota: Option<QuotaGuard>,
    questions: Vec<AuthQuestion>,
    rechecks: Vec<Recheck>,
    // `None`: nothing can be revoked.
    revocable: Option<Rc<RevocableRequest>>,
}

impl StreamGuard {
    /// The guard of a stream whose auth backends are asked `questions` again, and whose credential may be
    /// revoked; `None` if there is nothing to keep.
    pub(super) fn new(
        quota: Option<QuotaGuard>,
        questions: &[AuthQuestion],
        revocable: Option<&Rc<RevocableRequest>>,
    ) -> Option<Box<Self>> {
        let is_needed = quota.is_some() || !questions.is_empty() || revocable.is_some();
        let (questions, revocable) = (questions.to_vec(), revocable.cloned());
        is_needed
            .then(|| Box::new(Self { _quota: quota, questions, rechecks: Vec::new(), revocable }))
    }

    /// The stream is open, and follows `channels`: `end` ends it.
    pub(super) fn watch(
        &mut self,
        channels: Box<[ChannelName]>,
        end: impl Fn(CloseReason) + Clone + 'static,
    ) {
        let questions = self.questions.drain(..);
        self.rechecks =
            questions.filter_map(|question| recheck::start(question, end.clone())).collect();
        if let Some(revocable) = &self.revocable {
            revocable.open(channels, Box::new(end));
        }
    }
}
