//! Publish routes.

use std::sync::Arc;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use ssegate_auth::Identity;

use super::site::PublishSite;
use crate::auth::{AuthRequest, origin};
use crate::metrics::RouteMetrics;
use crate::route::{Parameters, PublishRoute, Route, Router};
use crate::server::request_body::RequestBody;
use crate::service::body::ResponseBody;
use crate::service::cors;
use crate::service::rejection::Rejection;
use crate::service::request_info::RequestInfo;
use crate::source::publishing::Publisher;

/// <https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Publishes what a request sends.
///
/// # Errors
/// The request is not allowed, or not everything is known to be published.
pub(in crate::service) async fn respond(
    (publisher, router, metrics): (&Publisher, &Router, &Arc<RouteMetrics>),
    (route, publish): (&Route, &PublishRoute),
    parameters: &Parameters,
    (request, info, identity): (Request<RequestBody>, &RequestInfo, Option<&Identity>),
    is_tls: bool,
) -> Result<Response<ResponseBody>, Rejection> {
    let settings = &route.settings;
    let origin = info.origin.as_ref();
    if info.preflight.is_some() {
        return Ok(cors::preflight(&settings.cors, origin, cors::PUBLISHING));
    }
    if *request.method() != Method::POST {
        return Err(Rejection::Method(vec![Method::POST]));
    }
    // Even with a token that the page itself has set: a page of another origin may publish only if it is
    // listed.
    let is_foreign = origin::is_foreign(AuthRequest::new(&request), is_tls)
        || is_foreign_page(request.headers());
    if is_foreign && !cors::permits(&settings.cors, origin) {
        metrics.all().auth_refused("foreign_origin");
        return Err(Rejection::ForeignOrigin);
    }
    let query = request.uri().query().unwrap_or_default();
    let channels = publish.channels(parameters, query, identity)?;
    let account = identity.and_then(Identity::account);
    let site = PublishSite {
        publisher,
        router,
        host: settings.host.as_deref(),
        settings: publish.settings(),
        channels,
        account: account.as_deref(),
        metrics,
    };
    site.publish(request).await
}

/// Whether a browser reports, without naming the origin, that the page of another origin makes the request.
pub(in crate::service) fn is_foreign_page(headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE);
    let is_own = |site: &HeaderValue| site == "same-origin" || site == "none";
    !headers.contains_key(ORIGIN) && !site.is_none_or(is_own)
}
