//! What authentication keeps for an open stream or tunnel.

use std::rc::Rc;

use ssegate_hub::{ChannelName, CloseReason};

use super::auth_backends::Rechecked;
use super::recheck::Rechecks;
use super::revocable::RevocableRequest;
use crate::auth::QuotaGuard;

/// What authentication keeps for an open stream or tunnel, until that is dropped.
#[derive(Debug)]
pub(super) struct StreamGuard {
    // Makes room for another stream of the same identity.
    _quota: Option<QuotaGuard>,
    // In `rechecks` once the stream is open.
    questions: Rechecked,
    rechecks: Rechecks,
    // `None`: nothing can be revoked.
    revocable: Option<Rc<RevocableRequest>>,
}

impl StreamGuard {
    /// The guard of a stream whose auth backends are asked `questions` again by `rechecks`, and whose credential
    /// may be revoked; `None` if there is nothing to keep.
    pub(super) fn new(
        quota: Option<QuotaGuard>,
        (questions, rechecks): (Rechecked, &Rechecks),
        revocable: Option<&Rc<RevocableRequest>>,
    ) -> Option<Box<Self>> {
        let is_needed = quota.is_some() || !questions.is_empty() || revocable.is_some();
        is_needed.then(|| {
            Box::new(Self {
                _quota: quota,
                questions,
                rechecks: rechecks.clone(),
                revocable: revocable.cloned(),
            })
        })
    }

    /// The stream is open, and follows `channels`: `end` ends it.
    pub(super) fn watch(&self, channels: Box<[ChannelName]>, end: impl Fn(CloseReason) + 'static) {
        let end: Rc<dyn Fn(CloseReason)> = Rc::new(end);
        for question in &self.questions {
            self.rechecks.insert(question, &end);
        }
        if let Some(revocable) = &self.revocable {
            revocable.open(channels, end);
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        for question in &self.questions {
            self.rechecks.remove(question);
        }
    }
}
