//! What the status page asks of the thread of the hub.

use ssegate_hub::Hub;
use tokio::sync::mpsc;

use crate::service::{HubQuestion, HubView};

/// Answers questions about the hub. Never returns; owned by the gateway.
pub(super) async fn answer(mut questions: mpsc::Receiver<HubQuestion>, hub: Hub) {
    while let Some(HubQuestion { max, reply }) = questions.recv().await {
        let settings = hub.settings();
        let view = HubView {
            busiest: hub.busiest(max).await,
            max_queue_bytes: settings.queue_memory,
            max_history_bytes: settings.history_memory,
            max_channels: settings.max_channels,
        };
        // Whoever asked may have gone: then the answer is for nobody.
        drop(reply.send(view));
    }
    // Nobody can ask: there is no admin listener.
    std::future::pending().await
}
