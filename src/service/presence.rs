//! Requests for presence, at the path of a stream with `/presence` behind it: responds with the members.
//!
//! Before it is admitted, such a request becomes the one that would open the stream: a client that may not open
//! the stream is refused in the same way, whoever the members are.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use serde::Serialize;
use ssegate_hub::ChannelName;

use super::admission::Admission;
use super::body::ResponseBody;
use super::present::names;
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::route_table::RouteTable;
use super::{Service, cors};
use crate::query;
use crate::route::{ChannelError, Channels, Parameters, Route, STREAM_METHODS};
use crate::source::presence::{ChannelPresence, PresentMember};

/// The query key for numbers without members.
const COUNT: &str = "count";

/// What a request asks of the channels of a stream.
#[derive(Debug)]
pub(super) struct PresenceErrand {
    /// The parameters of the path of the stream.
    pub(super) parameters: Parameters,
    /// The target of the request that would open the stream.
    pub(super) stream: Uri,
    /// Whether only the numbers are requested.
    is_count: bool,
}

/// Finds the route of a request for presence; `None` if it is not one.
pub(super) fn find<'r, B>(
    routes: &'r RouteTable,
    request: &Request<B>,
    info: &RequestInfo,
) -> Option<(&'r Route, PresenceErrand)> {
    let (router, uri) = (routes.router(), request.uri());
    if !router.may_ask_presence(uri.path()) {
        return None;
    }
    // An ambiguous host is refused on the path of other requests.
    let host = RouteTable::screen(request, info).ok()?;
    let (method, preflight) = (&info.method, info.preflight.as_ref());
    let (route, parameters, path) =
        router.find_presence(host.as_deref(), uri.path(), method, preflight)?;
    let query = uri.query().unwrap_or_default();
    let is_count = query::parse(query).iter().any(|(key, _)| key == COUNT);
    // A signature in the query does not cover it.
    let query = query::without(query, &[COUNT]);
    let target = match query.is_empty() {
        true => PathAndQuery::try_from(path),
        false => PathAndQuery::try_from(format!("{path}?{query}")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.ok()?);
    let stream = Uri::from_parts(parts).ok()?;
    Some((route, PresenceErrand { parameters, stream, is_count }))
}

/// Responds to an admitted request.
///
/// # Errors
/// The method or a channel is not valid or not allowed, or the members are not known now.
pub(super) async fn respond<B>(
    service: &Service,
    (route, channels): (&Route, &Channels),
    errand: &PresenceErrand,
    (request, info, admission): (Request<B>, &RequestInfo, &Admission),
) -> Result<Response<ResponseBody>, Rejection> {
    if info.preflight.is_some() {
        return Ok(cors::preflight(&route.settings.cors, info.origin.as_ref(), cors::LISTENING));
    }
    if !STREAM_METHODS.contains(&info.method) {
        return Err(Rejection::Method(STREAM_METHODS.into()));
    }
    let query = request.uri().query().unwrap_or_default();
    let topics = channels.topics(&errand.parameters, query, admission.identity.as_ref())?;
    if topics.iter().any(|topic| topic.subscription.is_pattern) {
        return Err(ChannelError::NoPattern.into());
    }
    let names: Vec<ChannelName> = names(&topics).collect();
    let found = service.presence().look_up(names.clone(), errand.is_count).await?;
    Ok(json(&names, channels.prefix_bytes(), &found, errand.is_count))
}

#[derive(Serialize)]
struct PresenceJson<'a> {
    channels: Vec<ChannelJson<'a>>,
}

#[derive(Serialize)]
struct ChannelJson<'a> {
    channel: &'a str,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<MemberJson<'a>>>,
}

#[derive(Serialize)]
struct MemberJson<'a> {
    id: &'a str,
    since: u64,
    connections: u64,
}

fn member_json(PresentMember { id, since, connections }: &PresentMember) -> MemberJson<'_> {
    MemberJson { id, since: *since, connections: *connections }
}

fn json(
    names: &[ChannelName],
    prefix_bytes: usize,
    found: &[ChannelPresence],
    is_count: bool,
) -> Response<ResponseBody> {
    let channels = names.iter().zip(found).map(|(name, found)| ChannelJson {
        channel: &name.as_str()[prefix_bytes..],
        count: found.count,
        members: (!is_count).then(|| found.members.iter().map(member_json).collect()),
    });
    let body = serde_json::to_vec(&PresenceJson { channels: channels.collect() });
    let mut body = body.expect("text and numbers are JSON");
    body.push(b'\n');
    let mut response = Response::new(ResponseBody::bytes(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
