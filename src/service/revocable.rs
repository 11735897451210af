//! The requests of one shard whose credential may be revoked while they are served.
//!
//! A request is here from its admission until it, or the stream or tunnel that it becomes, has ended: a
//! revocation that arrives while the request waits for a backend must not miss the stream that the
//! response opens. Only streams and tunnels are ended; any other response is completed.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};

use slab::Slab;
use ssegate_auth::Identity;
use ssegate_auth::revocation::{RevocableIds, RevocationBatch};
use ssegate_hub::{ChannelName, CloseReason};
use tokio::sync::mpsc;

use super::Service;
use super::stream_stopper::StreamStopper;
use crate::auth::RevocationNotice;

/// Requests that are checked without a pause for the streams of the shard.
const MAX_IN_TURN: usize = 2000;

/// Revocations that are checked together, at most.
const MAX_TOGETHER: usize = 256;

/// The requests of one shard whose credential may be revoked. A cheap handle.
#[derive(Clone, Default)]
pub(super) struct RevocableRequests(Rc<RefCell<Slab<Weak<RevocableRequest>>>>);

/// A request whose credential may be revoked. It counts until it is dropped.
// One for each open stream: small.
pub(super) struct RevocableRequest {
    requests: RevocableRequests,
    place: usize,
    // One for each credential.
    ids: Box<[RevocableIds]>,
    phase: RefCell<RequestPhase>,
}

enum RequestPhase {
    /// There is nothing to end yet.
    Pending { is_revoked: bool },
    /// It is a stream, with these channels, or a tunnel.
    Open { channels: Box<[ChannelName]>, stopper: StreamStopper },
    /// It was stopped.
    Ended,
}

impl Service {
    /// Ends the streams and tunnels of credentials that are revoked, until the channel of the notices is
    /// closed.
    pub async fn end_revoked(&self, notices: mpsc::Receiver<RevocationNotice>) {
        self.revocable_requests().run(notices).await;
    }

    pub(super) fn revocable_requests(&self) -> &RevocableRequests {
        &self.0.revocable_requests
    }
}

impl RevocableRequests {
    /// Adds a request that has just been admitted.
    /// `identities`: the identity of each of its credentials.
    pub(super) fn admit<'a>(
        &self,
        identities: impl Iterator<Item = &'a Identity>,
    ) -> Rc<RevocableRequest> {
        self.add(identities.map(RevocableIds::of).collect(), false)
    }

    fn add(&self, ids: Box<[RevocableIds]>, is_revoked: bool) -> Rc<RevocableRequest> {
        let mut requests = self.0.borrow_mut();
        let entry = requests.vacant_entry();
        let request = Rc::new(RevocableRequest {
            requests: self.clone(),
            place: entry.key(),
            ids,
            phase: RefCell::new(RequestPhase::Pending { is_revoked }),
        });
        entry.insert(Rc::downgrade(&request));
        request
    }

    /// Ends what is revoked, for as long as the shard runs.
    async fn run(&self, mut notices: mpsc::Receiver<RevocationNotice>) {
        let mut waiting = Vec::new();
        while notices.recv_many(&mut waiting, MAX_TOGETHER).await > 0 {
            let revocations: Vec<_> =
                waiting.iter().map(|notice| notice.revocation.clone()).collect();
            let ended = self.end(&revocations.iter().map(|it| &**it).collect()).await;
            for (number, notice) in waiting.drain(..).enumerate() {
                let count = ended.iter().filter(|by| **by == number).count();
                // Fails if the sender does not wait for the result.
                notice.ended.send(count).unwrap_or_default();
            }
        }
    }

    /// Ends the streams and tunnels that a batch revokes. Returns, for each one that was ended, the
    /// index of its revocation in the batch.
    async fn end(&self, batch: &RevocationBatch<'_>) -> Vec<usize> {
        let mut ended = Vec::new();
        let places = self.0.borrow().capacity();
        for start in (0..places).step_by(MAX_IN_TURN) {
            if start > 0 {
                tokio::task::yield_now().await;
            }
            for place in start..places.min(start + MAX_IN_TURN) {
                // A request that arrived meanwhile was admitted after the revocations were stored.
                let request = self.0.borrow().get(place).and_then(Weak::upgrade);
                ended.extend(request.and_then(|request| request.end_if(batch)));
            }
        }
        ended
    }
}

impl RevocableRequest {
    /// A second registration with the same credentials, for a task that may outlive this request.
    pub(super) fn again(self: &Rc<Self>) -> Rc<Self> {
        let is_revoked = match *self.phase.borrow() {
            RequestPhase::Pending { is_revoked } => is_revoked,
            RequestPhase::Open { .. } => false,
            RequestPhase::Ended => true,
        };
        self.requests.add(self.ids.clone(), is_revoked)
    }

    /// Records that it has become a stream that follows `channels`, or a tunnel; `stopper` ends it.
    pub(super) fn open(&self, channels: Box<[ChannelName]>, stopper: StreamStopper) {
        let phase = self.phase.replace(RequestPhase::Ended);
        if matches!(phase, RequestPhase::Pending { is_revoked: true }) {
            return stopper.stop(CloseReason::Revoked);
        }
        self.phase.replace(RequestPhase::Open { channels, stopper });
    }

    /// Ends it if `batch` revokes it. Returns the index of the revocation that ended a stream.
    fn end_if(&self, batch: &RevocationBatch<'_>) -> Option<usize> {
        let mut phase = self.phase.borrow_mut();
        let channels = match &*phase {
            RequestPhase::Open { channels, .. } => &channels[..],
            // One that follows nothing yet may follow it: no credential is refused for a channel.
            RequestPhase::Pending { .. } => &[],
            RequestPhase::Ended => return None,
        };
        let by = batch.ending(&self.ids, channels.iter().map(ChannelName::as_str))?;
        match std::mem::replace(&mut *phase, RequestPhase::Ended) {
            RequestPhase::Open { stopper, .. } => {
                drop(phase);
                stopper.stop(CloseReason::Revoked);
                Some(by)
            }
            _ => {
                *phase = RequestPhase::Pending { is_revoked: true };
                None
            }
        }
    }
}

impl Drop for RevocableRequest {
    fn drop(&mut self) {
        let mut requests = self.requests.0.borrow_mut();
        requests.remove(self.place);
        // After many have ended, their places take no memory.
        if requests.is_empty() {
            requests.shrink_to_fit();
        }
    }
}

impl fmt::Debug for RevocableRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.0.borrow().len();
        f.debug_struct("RevocableRequests").field("requests", &requests).finish()
    }
}

impl fmt::Debug for RevocableRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocableRequest").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use ssegate_auth::Identity;
    use ssegate_auth::revocation::{Revocation, RevocationTarget};
    use ssegate_hub::{ChannelName, CloseReason};
    use tokio::runtime::LocalRuntime;
    use tokio::sync::{mpsc, oneshot};

    use super::{MAX_IN_TURN, RevocableRequest, RevocableRequests};
    use crate::auth::RevocationNotice;
    use crate::service::stream_stopper::StreamStopper;

    fn subject(id: &str) -> RevocationTarget {
        RevocationTarget::Subject { id: id.into(), is_blocked: false }
    }

    type Ends = Rc<RefCell<Vec<String>>>;

    fn open(request: &RevocableRequest, name: &str, channels: &[&str], ends: &Ends) {
        let channels = channels.iter().map(|it| ChannelName::new(it).expect("a name")).collect();
        let (ends, name) = (Rc::clone(ends), name.to_owned());
        request.open(
            channels,
            StreamStopper::of(move |reason| {
                assert_eq!(reason, CloseReason::Revoked);
                ends.borrow_mut().push(name.clone());
            }),
        );
    }

    /// What each of these ended, when they come together.
    async fn revoke(requests: &RevocableRequests, targets: Vec<RevocationTarget>) -> Vec<usize> {
        let (sender, notices) = mpsc::channel(16);
        let mut counts = Vec::new();
        for target in targets {
            let revocation = Revocation::new(target, SystemTime::now(), Duration::from_secs(60));
            let revocation = Arc::new(revocation.expect("well formed"));
            let (ended, count) = oneshot::channel();
            sender.send(RevocationNotice { revocation, ended }).await.expect("room");
            counts.push(count);
        }
        drop(sender);
        requests.run(notices).await;
        let mut ended = Vec::new();
        for count in counts {
            ended.push(count.await.expect("it is told"));
        }
        ended
    }

    fn on_a_shard(test: impl AsyncFnOnce(RevocableRequests, Ends)) {
        let runtime = LocalRuntime::new().expect("a runtime");
        runtime.block_on(test(RevocableRequests::default(), Ends::default()));
    }

    #[test]
    fn each_stream_that_is_meant_ends_once() {
        on_a_shard(async |requests, ends| {
            let [first, second, third] =
                ["42", "42", "43"].map(|id| requests.admit([&Identity::named(id)].into_iter()));
            open(&first, "first", &["news"], &ends);
            open(&second, "second", &[], &ends);
            open(&third, "third", &["news", "orders:*"], &ends);
            let news = RevocationTarget::Channel("orders:*".into());
            assert_eq!(revoke(&requests, vec![subject("4"), subject("42"), news]).await, [0, 2, 1]);
            assert_eq!(*ends.borrow(), ["first", "second", "third"]);
            assert_eq!(
                revoke(&requests, vec![RevocationTarget::All]).await,
                [0],
                "they have ended"
            );
            drop((first, second, third));
            assert!(requests.0.borrow().is_empty());
        });
    }

    #[test]
    fn a_revocation_that_comes_before_the_stream_is_open_ends_it_too() {
        on_a_shard(async |requests, ends| {
            let [revoked, other] =
                ["42", "43"].map(|id| requests.admit([&Identity::named(id)].into_iter()));
            assert_eq!(revoke(&requests, vec![subject("42")]).await, [0]);
            assert_eq!(revoke(&requests, vec![subject("44")]).await, [0]);
            open(&revoked, "revoked", &[], &ends);
            open(&other, "other", &[], &ends);
            assert_eq!(*ends.borrow(), ["revoked"]);
        });
    }

    #[test]
    fn a_stream_that_leaves_while_others_are_looked_at_is_no_matter() {
        on_a_shard(async |requests, ends| {
            let mut all: Vec<_> = (0..3 * MAX_IN_TURN)
                .map(|number| requests.admit([&Identity::named(&number.to_string())].into_iter()))
                .collect();
            for request in &all {
                open(request, "one", &[], &ends);
            }
            let leaving = async {
                tokio::task::yield_now().await;
                all.truncate(MAX_IN_TURN);
            };
            let (ended, ()) = tokio::join!(revoke(&requests, vec![RevocationTarget::All]), leaving);
            assert!(ended[0] >= MAX_IN_TURN && ended[0] == ends.borrow().len(), "{ended:?}");
        });
    }
}
