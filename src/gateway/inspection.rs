//! Replies to the questions of the status page about the hubs.

use tokio::sync::mpsc;

use super::hubs::Hubs;
use crate::service::HubQuestion;

/// Replies to questions about the hubs. Never returns; owned by the gateway.
pub(super) async fn answer(mut questions: mpsc::Receiver<HubQuestion>, hubs: Hubs) {
    while let Some(HubQuestion { max, reply }) = questions.recv().await {
        // Fails if the receiver is gone, which does not matter.
        drop(reply.send(hubs.view(max).await));
    }
    // The sender is gone: there is no admin listener.
    std::future::pending().await
}
