//! What authentication keeps for an open stream or tunnel, and the presence of its member.

use std::rc::Rc;

use ssegate_hub::ChannelName;

use super::auth_backends::Rechecked;
use super::auth_question::AuthQuestion;
use super::recheck::Rechecks;
use super::revocable::RevocableRequest;
use super::stream_stopper::StreamStopper;
use crate::auth::QuotaGuard;
use crate::source::presence::PresentStream;

/// What authentication keeps for an open stream or tunnel, until that is dropped.
#[derive(Debug)]
pub(super) struct StreamGuard(Guarded);

#[derive(Debug)]
enum Guarded {
    /// Its question is asked again, and nothing else: the usual case where a backend decides.
    Question(Rc<AuthQuestion>, Rechecks),
    /// Boxed: keeps streams small.
    Several(Box<GuardedBySeveral>),
    /// Its member is present, besides what else is kept.
    Member(Box<(Option<StreamGuard>, PresentStream)>),
}

#[derive(Debug)]
struct GuardedBySeveral {
    // Makes room for another stream of the same identity.
    _quota: Option<QuotaGuard>,
    // In `rechecks` once the stream is open.
    questions: Rechecked,
    rechecks: Rechecks,
    // `None`: nothing can be revoked.
    revocable: Option<Rc<RevocableRequest>>,
}

impl StreamGuard {
    /// Creates the guard of a stream whose auth backends are asked `questions` again by `rechecks`, and whose
    /// credential may be revoked; `None` if there is nothing to keep.
    pub(super) fn new(
        quota: Option<QuotaGuard>,
        (mut questions, rechecks): (Rechecked, &Rechecks),
        revocable: Option<&Rc<RevocableRequest>>,
    ) -> Option<Self> {
        let rechecks = || rechecks.clone();
        if quota.is_none() && revocable.is_none() && questions.len() < 2 {
            return questions.pop().map(|one| Self(Guarded::Question(one, rechecks())));
        }
        Some(Self(Guarded::Several(Box::new(GuardedBySeveral {
            _quota: quota,
            questions,
            rechecks: rechecks(),
            revocable: revocable.cloned(),
        }))))
    }

    /// Wraps `guard`, for a stream with a member.
    pub(super) fn of_member(guard: Option<Self>, present: PresentStream) -> Self {
        Self(Guarded::Member(Box::new((guard, present))))
    }

    /// Records that the stream is open, and follows `channels`; `stopper` ends it.
    pub(super) fn watch(&self, channels: Box<[ChannelName]>, stopper: StreamStopper) {
        match &self.0 {
            Guarded::Question(question, rechecks) => rechecks.insert(question, stopper),
            Guarded::Several(several) => {
                for question in &several.questions {
                    several.rechecks.insert(question, stopper.clone());
                }
                if let Some(revocable) = &several.revocable {
                    revocable.open(channels, stopper);
                }
            }
            Guarded::Member(member) => {
                if let (Some(guard), _) = &**member {
                    guard.watch(channels, stopper);
                }
            }
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        match &self.0 {
            Guarded::Question(question, rechecks) => rechecks.remove(question),
            Guarded::Several(several) => {
                for question in &several.questions {
                    several.rechecks.remove(question);
                }
            }
            // What is in it is dropped after this.
            Guarded::Member(_) => {}
        }
    }
}
