//! The name of a request that waits for its response, as other gateways see it: which of several requests was first,
//! and what stops or replaces it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::owner::OwnerTag;
use super::registry::{KeptStreams, milliseconds};
use super::stop_word::stop_reason;
use super::stream::CancelReason;
use super::stream_id::new_id;
use super::waiting::{NameClaim, WaitingRequest};
use crate::hex::hex;
use crate::route::SameKey;
use crate::source::kept::{IndexOutcome, IndexStep, KeptAway, KeptStore, KeptWatch};

/// How long a gateway keeps a name after its last renewal.
pub(super) const NAME_LEASE: Duration = Duration::from_secs(30);
/// How often the name is renewed.
pub(super) const NAME_RENEWAL: Duration = Duration::from_secs(10);
/// How long a request waits for a Redis that is away. After that the streams of other gateways do not count.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long a stream that has just ended may still count as running.
const MOMENT: Duration = Duration::from_millis(150);

/// A stream of the same name runs at another gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct NameTaken;

impl KeptStreams {
    /// Claims a name at Redis, for a request that waits. With [`SameKey::Replace`] the requests and streams of that
    /// name at other gateways are stopped before this returns. While Redis is away only those of this gateway count.
    ///
    /// # Errors
    /// With [`SameKey::Reject`] there are others.
    pub(in crate::service) async fn claim(
        &self,
        store: &KeptStore,
        waiting: &mut WaitingRequest,
        same_key: SameKey,
    ) -> Result<(), NameTaken> {
        let (id, began, tag) = (new_id(), milliseconds(), index_tag(&waiting.name()));
        // Before the claim: no notification is missed, and the name is released even if the client leaves before the
        // reply.
        let (begins, has_begun) = oneshot::channel();
        let (claims, is_claimed) = oneshot::channel();
        waiting.set_claim(NameClaim::new(id.clone(), begins));
        let (watch, cancelled) = (store.watch(&id), waiting.cancelled().clone());
        let held =
            HeldName { tag: tag.clone(), id: id.clone(), began, path: waiting.path().into() };
        let holding = hold((store.clone(), watch), held, cancelled);
        let (of_holder, of_tag, of_id) = (store.clone(), tag.clone(), id.clone());
        drop(tokio::task::spawn_local(async move {
            let claimed = async {
                match is_claimed.await {
                    Ok(()) => holding.await,
                    // The claim has failed. The end of the request removes it from the index.
                    Err(_ended) => std::future::pending().await,
                }
            };
            tokio::select! {
                begun = has_begun => if begun.is_err() {
                    let step = IndexStep::Remove;
                    drop(of_holder.index(&of_tag, (&of_id, began), step).await);
                },
                () = claimed => {}
            }
        }));
        match same_key {
            SameKey::Parallel => {}
            SameKey::Replace | SameKey::Reject => {
                match timeout(MAX_WAIT, claim_name(store, &tag, (&id, began), same_key)).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => return Err(NameTaken),
                    Ok(Err(KeptAway::Away | KeptAway::Emptied | KeptAway::Refused)) | Err(_) => {
                        self.metrics().kept_unclaimed()
                    }
                }
            }
        }
        claims.send(()).ok();
        Ok(())
    }
}

/// Claims a name. Returns whether the claim was successful. What it replaces is stopped before this returns.
pub(super) async fn claim_name(
    store: &KeptStore,
    tag: &str,
    stream: (&str, u64),
    same_key: SameKey,
) -> Result<bool, KeptAway> {
    let word = match same_key {
        SameKey::Parallel => "parallel",
        SameKey::Replace => "replace",
        SameKey::Reject => "reject",
    };
    let step = IndexStep::Claim(word, NAME_LEASE);
    let mut claimed = store.index(tag, stream, step).await?;
    if claimed == IndexOutcome::Refused {
        sleep(MOMENT).await;
        claimed = store.index(tag, stream, step).await?;
    }
    let IndexOutcome::Others(others) = claimed else { return Ok(false) };
    if same_key == SameKey::Replace {
        for other in others.iter().filter(|other| other.runs) {
            store.stop(&other.id, CancelReason::Replaced.as_str(), &other.gateway).await?;
        }
    }
    Ok(true)
}

/// The index of a name.
pub(super) fn index_tag(name: &OwnerTag) -> String {
    hex(name.as_bytes())
}

/// The state of a request that waits.
struct HeldName {
    tag: String,
    id: Box<str>,
    began: u64,
    path: Box<str>,
}

/// Keeps a name until another gateway stops the request.
async fn hold(
    (store, watch): (KeptStore, KeptWatch),
    HeldName { tag, id, began, path }: HeldName,
    cancelled: CancellationToken,
) {
    loop {
        drop(store.index(&tag, (&id, began), IndexStep::Keep(NAME_LEASE)).await);
        // A notification only wakes: it may be lost or forged, so Redis is read.
        if let Ok(Some(word)) = store.stopped(&id).await
            && stop_reason(&word, &path).is_some()
        {
            cancelled.cancel();
        }
        tokio::select! {
            () = watch.news() => {}
            () = sleep(NAME_RENEWAL) => {}
        }
    }
}
