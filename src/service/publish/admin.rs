//! Publishing on the admin listener: whoever reaches it may publish to any channel.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use super::is_foreign_page;
use super::site::PublishSite;
use crate::metrics::{Metrics, RouteMetrics};
use crate::route::{ChannelError, PublishChannels, PublishSettings, Router};
use crate::server::connection::BodyError;
use crate::service::body::ResponseBody;
use crate::service::rejection::Rejection;
use crate::service::request_info::RequestInfo;
use crate::source::publishing::Publisher;

/// The label of the admin listener among the routes. No path of a route looks like it.
const LABEL: &str = "admin";

/// Publishes for the admin listener.
#[derive(Clone, Debug)]
pub struct AdminPublishing {
    publisher: Publisher,
    // The current routes, which a reload changes.
    router: watch::Receiver<Arc<Router>>,
    settings: PublishSettings,
    metrics: Arc<RouteMetrics>,
}

impl AdminPublishing {
    /// Publishes with `publisher`, as the routes of `router` read what is published.
    pub fn new(
        publisher: Publisher,
        router: watch::Receiver<Arc<Router>>,
        metrics: &Metrics,
    ) -> Self {
        let settings = PublishSettings::default();
        Self { publisher, router, settings, metrics: metrics.route(LABEL) }
    }

    /// Publishes what a request sends to `channel`, the percent-encoded last part of its path. The caller has
    /// checked its `Host` and its `Origin`.
    pub async fn respond<B>(&self, channel: &str, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes, Error: Into<BodyError>>,
    {
        let info = RequestInfo::new(&request);
        let published = Box::pin(self.publish(channel, request)).await;
        let response = published.unwrap_or_else(|rejection| rejection.response(&info));
        response.map(|mut body| body.take_whole().unwrap_or_default())
    }

    async fn publish<B>(
        &self,
        channel: &str,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, Rejection>
    where
        B: Body<Data = Bytes, Error: Into<BodyError>>,
    {
        if is_foreign_page(request.headers()) {
            return Err(Rejection::ForeignOrigin);
        }
        let channel = percent_decode_str(channel).decode_utf8();
        let channel = channel.map_err(|_not_text| ChannelError::NotUtf8)?;
        if channel.is_empty() {
            return Err(ChannelError::Missing.into());
        }
        let router = Arc::clone(&self.router.borrow());
        let site = PublishSite {
            publisher: &self.publisher,
            router: &router,
            host: None,
            settings: &self.settings,
            channels: PublishChannels::Any(channel.into_owned()),
            account: None,
            metrics: &self.metrics,
        };
        site.publish(request).await
    }
}
