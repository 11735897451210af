//! The live part of the status page: the state of the gateway, once a second, and what is published to a channel.
//!
//! | path | response |
//! |---|---|
//! | `/status/events` | an event stream: a report each second |
//! | `/status/follow?channel=` | what a client of the channel's route is sent, if the listener is on loopback or has `admin.auth` |
//!
//! A report is made and encoded once for all viewers, and only while there are any. While the gateway drains, a
//! stream is one report and a `retry`.

mod feed;
mod report;
mod requests;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::feed::Feed;
use super::auth::AdminPrivacy;
use super::body::{AdminResponseBody, LiveActivity, LiveBody, Viewer, Viewers};
use super::text;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::query;
use crate::service::{ShardQuestion, StatusInspection};

/// What the paths begin with.
pub(super) const PATH: &str = "/status/";
/// The most viewers at the same time: each is sent some kilobytes a second.
const MAX_VIEWERS: usize = 16;
/// How many channels may be followed at once.
const MAX_FOLLOWERS: usize = 8;
/// A live stream ends after this time; the page opens the next one, with its credential of then.
const MAX_STREAM_AGE: Duration = Duration::from_secs(900);
/// How long a shard may take to follow a channel.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(5);
/// Pieces of a followed stream that wait for the page; up to 16 KiB each. Further ones wait in the stream's queue.
const MAX_PIECES: usize = 4;

/// What the status page needs beside health and metrics.
#[derive(Clone, Debug)]
pub struct StatusSetup {
    /// Where the hubs and shards are asked.
    pub inspection: StatusInspection,
    /// Whether clients of the listener may see what streams are sent: names of channels, and events.
    pub privacy: AdminPrivacy,
    /// Whether the page offers to publish.
    pub publishes: bool,
}

/// The live part of the status page.
#[derive(Debug)]
pub(super) struct LiveStatus {
    feed: Feed,
    inspection: StatusInspection,
    privacy: AdminPrivacy,
    viewers: Viewers,
    followers: Viewers,
}

impl LiveStatus {
    pub(super) fn new(
        setup: &StatusSetup,
        (health, metrics): (&Health, &Metrics),
        urls: &[String],
    ) -> Self {
        let [viewers, followers] = Viewers::pair(metrics);
        Self {
            feed: Feed::new(setup, (health.clone(), metrics.clone()), urls),
            inspection: setup.inspection.clone(),
            privacy: setup.privacy.clone(),
            viewers,
            followers,
        }
    }

    /// Responds to a request whose `Host` and `Origin` are allowed, and whose credential is accepted until `ends`.
    /// `None`: the path is not one of these.
    pub(super) async fn respond<B>(
        &self,
        request: &Request<B>,
        ends: Option<SystemTime>,
        activity: &LiveActivity,
    ) -> Option<Response<AdminResponseBody>> {
        let is_head = request.method() == Method::HEAD;
        let longest = ends.map_or(MAX_STREAM_AGE, |ends| {
            let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
            left.min(MAX_STREAM_AGE)
        });
        let live = |texts, viewer| {
            stream(AdminResponseBody::Live(LiveBody::new(texts, longest, viewer, activity)))
        };
        match request.uri().path() {
            feed::PATH if is_head => Some(stream(Full::default().into())),
            feed::PATH => Some(match self.viewers.enter(MAX_VIEWERS) {
                Some(viewer) => live(self.feed.watch(), viewer),
                None => busy("16 status pages are open already"),
            }),
            "/status/follow" => Some(match self.follow(request, is_head).await {
                Ok(Some((texts, viewer))) => live(texts, viewer),
                Ok(None) => stream(Full::default().into()),
                Err(refused) => refused,
            }),
            _ => None,
        }
    }

    async fn follow<B>(
        &self,
        request: &Request<B>,
        is_head: bool,
    ) -> Result<Option<(mpsc::Receiver<Bytes>, Viewer)>, Response<AdminResponseBody>> {
        if !self.privacy.holds() {
            const ERROR: &str = "403 Forbidden: channels are followed here only if admin.address in gateway.yaml is on \
                                 loopback, or with admin.auth\n";
            return Err(text(StatusCode::FORBIDDEN, ERROR).map(Into::into));
        }
        let query = query::parse(request.uri().query().unwrap_or_default());
        let value =
            |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, it)| it.clone());
        let channel = value("channel");
        let last_event_id = value("last_event_id").filter(|id| !id.is_empty());
        let last_event_id = last_event_id.map(String::into_bytes);
        let Some(channel) = channel else {
            const ERROR: &str = "400 Bad Request: use /status/follow?channel=NAME\n";
            return Err(text(StatusCode::BAD_REQUEST, ERROR).map(Into::into));
        };
        if is_head {
            return Ok(None);
        }
        let viewer = self.followers.enter(MAX_FOLLOWERS);
        let viewer = viewer.ok_or_else(|| busy("8 channels are followed here already"))?;
        let (frames, texts) = mpsc::channel(MAX_PIECES);
        let (reply, answer) = oneshot::channel();
        let question = ShardQuestion::Follow { channel, last_event_id, frames, reply };
        let shard = self.inspection.shards.first();
        let is_asked = shard.is_some_and(|shard| shard.try_send(question).is_ok());
        match timeout(FOLLOW_TIMEOUT, answer).await {
            Ok(Ok(Ok(()))) if is_asked => Ok(Some((texts, viewer))),
            Ok(Ok(Err(error))) => {
                let error = format!("404 Not Found: {error}\n");
                Err(text(StatusCode::NOT_FOUND, error).map(Into::into))
            }
            // The shard is shutting down, or too busy.
            _ => Err(busy("the gateway is busy")),
        }
    }
}

/// An event stream.
fn stream(body: AdminResponseBody) -> Response<AdminResponseBody> {
    let mut response = Response::new(body);
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn busy(why: &str) -> Response<AdminResponseBody> {
    let error = format!("503 Service Unavailable: {why}; try again later\n");
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, error);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    response.map(Into::into)
}
