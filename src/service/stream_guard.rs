//! What authentication keeps for an open stream or tunnel.

use std::rc::Rc;

use ssegate_hub::{ChannelName, CloseReason};

use super::auth_question::AuthQuestion;
use super::recheck::{Recheck, Rechecks};
use super::revocable::RevocableRequest;
use crate::auth::QuotaGuard;

/// What authentication keeps for an open stream or tunnel, until that is dropped.
#[derive(Debug)]
pub(super) struct StreamGuard {
    // Makes room for another stream of the same identity.
    _quota: Option<QuotaGuard>,
    questions: Box<[Rc<AuthQuestion>]>,
    rechecks: Rechecks,
    rechecked: Vec<Recheck>,
    // `None`: nothing can be revoked.
    revocable: Option<Rc<RevocableRequest>>,
}

impl StreamGuard {
    /// The guard of a stream whose auth backends are asked `questions` again by `rechecks`, and whose credential
    /// may be revoked; `None` if there is nothing to keep.
    pub(super) fn new(
        quota: Option<QuotaGuard>,
        (questions, rechecks): (&[Rc<AuthQuestion>], &Rechecks),
        revocable: Option<&Rc<RevocableRequest>>,
    ) -> Option<Box<Self>> {
        let is_needed = quota.is_some() || !questions.is_empty() || revocable.is_some();
        is_needed.then(|| {
            Box::new(Self {
                _quota: quota,
                questions: questions.into(),
                rechecks: rechecks.clone(),
                rechecked: Vec::new(),
                revocable: revocable.cloned(),
            })
        })
    }

    /// The stream is open, and follows `channels`: `end` ends it.
    pub(super) fn watch(
        &mut self,
        channels: Box<[ChannelName]>,
        end: impl Fn(CloseReason) + 'static,
    ) {
        let end: Rc<dyn Fn(CloseReason)> = Rc::new(end);
        let questions = std::mem::take(&mut self.questions).into_iter();
        let rechecked =
            questions.filter_map(|question| self.rechecks.insert(question, Rc::clone(&end)));
        self.rechecked = rechecked.collect();
        if let Some(revocable) = &self.revocable {
            revocable.open(channels, end);
        }
    }
}
