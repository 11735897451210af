//! What the status page asks of the thread of the hubs.

use tokio::sync::mpsc;

use super::hubs::Hubs;
use crate::service::HubQuestion;

/// Answers questions about the hubs. Never returns; owned by the gateway.
pub(super) async fn answer(mut questions: mpsc::Receiver<HubQuestion>, hubs: Hubs) {
    while let Some(HubQuestion { max, reply }) = questions.recv().await {
        // Whoever asked may have gone: then the answer is for nobody.
        drop(reply.send(hubs.view(max).await));
    }
    // Nobody can ask: there is no admin listener.
    std::future::pending().await
}
