//! A channel that got its first member, or lost its last one: the webhooks that are called.

use super::change::ChannelChange;
use super::event::shown_name;
use crate::webhook::{WebhookCall, WebhookEvent, Webhooks};

impl ChannelChange {
    /// Calls the webhook of the route for this event: the change has occupied or vacated the channel, at this time in
    /// milliseconds since 1970.
    pub(crate) fn call_webhook(&self, webhooks: &Webhooks, event: WebhookEvent, time_ms: u64) {
        let webhook = match event {
            WebhookEvent::Occupied => &self.settings.on_occupied,
            WebhookEvent::Vacated => &self.settings.on_vacated,
        };
        // The URLs of a route share a lane, so that the calls for a channel stay in order even if the URLs differ.
        let both = [&self.settings.on_occupied, &self.settings.on_vacated];
        let urls = both.map(|webhook| webhook.as_ref().map(|it| it.url.to_string()));
        let lane = urls.map(Option::unwrap_or_default).join(" ");
        if let Some(webhook) = webhook {
            let channel = shown_name(self.name.as_str(), self.prefix_bytes);
            webhooks.queue(WebhookCall::new((webhook, &lane), event, (channel, time_ms)));
        }
    }
}
