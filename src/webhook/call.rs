//! A webhook to send, and where it is sent.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use serde::Serialize;

use crate::grip::signature::Secret;

/// Where webhooks are sent, and how they are signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// An `http` or `https` URL without a user.
    pub url: Uri,
    /// The secret that the gateway shares with the server there.
    pub key: Secret,
}

/// What has happened to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum WebhookEvent {
    /// The first member has come.
    #[serde(rename = "channel_occupied")]
    Occupied,
    /// The last member has left.
    #[serde(rename = "channel_vacated")]
    Vacated,
}

/// One webhook to send.
#[derive(Clone, Debug)]
pub(crate) struct WebhookCall {
    /// The URL and its key.
    pub(crate) webhook: Arc<Webhook>,
    /// Its queue: calls of one lane about one channel are sent in order.
    pub(crate) lane: Arc<str>,
    /// What has happened.
    pub(crate) event: WebhookEvent,
    /// The channel, as clients know it.
    pub(crate) channel: Arc<str>,
    /// When, in milliseconds since 1970, by the clock that all gateways share.
    pub(crate) time_ms: u64,
    /// Identifies the call to a receiver that gets it twice.
    pub(crate) id: String,
}

impl WebhookCall {
    pub(crate) fn new(
        (webhook, lane): (&Arc<Webhook>, &str),
        event: WebhookEvent,
        (channel, time_ms): (&str, u64),
    ) -> Self {
        let id = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        let (webhook, lane) = (Arc::clone(webhook), lane.into());
        Self { webhook, lane, event, channel: channel.into(), time_ms, id }
    }

    /// The body of the request.
    pub(super) fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct BodyJson<'a> {
            id: &'a str,
            event: WebhookEvent,
            channel: &'a str,
            time_ms: u64,
        }
        let Self { event, channel, time_ms, id, .. } = self;
        let body = BodyJson { id, event: *event, channel, time_ms: *time_ms };
        serde_json::to_vec(&body).expect("text and numbers are JSON")
    }
}

/// The URL without its query, which may hold a secret.
impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.url.scheme_str().unwrap_or_default(), self.url.path())
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").field(&self.to_string()).finish()
    }
}

/// A call for tests, to a server that is not there.
#[cfg(test)]
pub(super) fn test_call(lane: &str, channel: &str, time_ms: u64) -> WebhookCall {
    let key = Secret::new(vec![b'k'; 32]).expect("long enough");
    let webhook = Arc::new(Webhook { url: "http://a.example/".parse().expect("a URL"), key });
    WebhookCall::new((&webhook, lane), WebhookEvent::Occupied, (channel, time_ms))
}
