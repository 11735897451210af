//! A request whose client may leave before the backend has responded.
//!
//! A model may think for a while before it begins. A page that is reloaded meanwhile finds its stream by its name,
//! so a request with a name is forwarded by a task of its own. It ends in the same way as a stream that nobody
//! reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::kept_request::Keeping;
use super::rejection::Rejection;
use crate::proxy::{Forwarded, ProxyError};
use crate::route::{KeepSettings, WhenNobody};

/// The result of a request whose response may be kept.
pub(super) type Answered = (Result<Forwarded, ProxyError>, Box<Keeping>);

/// Forwards a request, even after its client has left. Returns the response if the client is still there;
/// otherwise the response is kept, if it can be.
///
/// # Errors
/// It was cancelled, it has panicked, or the gateway stops.
pub(super) async fn forward(
    forwarding: impl Future<Output = Result<Forwarded, ProxyError>> + 'static,
    keeping: Box<Keeping>,
    keep: &Arc<KeepSettings>,
    service: &Service,
) -> Result<Answered, Rejection> {
    let (sender, answer) = oneshot::channel();
    let (cancelled, forwarding) = (keeping.cancelled(), Box::pin(forwarding));
    let forwarding = unless_cancelled(forwarding, cancelled.clone());
    let (keep, pumped) = (Arc::clone(keep), service.clone());
    let task = async move {
        let Some((Ok(forwarded), sender)) = forward_for(forwarding, sender, keep.when_nobody).await
        else {
            return;
        };
        // Fails if the client has left.
        if let Err((Ok(Forwarded::Response(response)), keeping)) = sender.send((forwarded, keeping))
        {
            keeping.keep_unread(&keep, response, &pumped);
        }
    };
    drop(service.pumps().spawn_local(task));
    let is_cancelled = || cancelled.is_some_and(|cancelled| cancelled.is_cancelled());
    answer.await.map_err(|_the_task_is_gone| match is_cancelled() {
        true => Rejection::Cancelled,
        false => Rejection::Panicked,
    })
}

/// Forwards a request. When it is cancelled, the request to the backend is cancelled, too.
///
/// # Errors
/// It was cancelled.
pub(super) async fn unless_cancelled<T>(
    forwarding: impl Future<Output = T>,
    cancelled: Option<CancellationToken>,
) -> Result<T, Rejection> {
    let Some(cancelled) = cancelled else { return Ok(forwarding.await) };
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(Rejection::Cancelled),
        forwarded = forwarding => Ok(forwarded),
    }
}

/// Returns the response; `None` if the client has been gone for too long.
async fn forward_for<T>(
    forwarding: impl Future<Output = T>,
    mut sender: oneshot::Sender<Answered>,
    when_nobody: WhenNobody,
) -> Option<(T, oneshot::Sender<Answered>)> {
    let forwarded = match when_nobody {
        WhenNobody::Continue => forwarding.await,
        WhenNobody::CancelAfter(time) => tokio::select! {
            forwarded = forwarding => forwarded,
            () = gone_for(&mut sender, time) => return None,
        },
    };
    Some((forwarded, sender))
}

/// Waits until the client has been gone for this time.
async fn gone_for(sender: &mut oneshot::Sender<Answered>, time: Duration) {
    sender.closed().await;
    tokio::time::sleep(time).await;
}
