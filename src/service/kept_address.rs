//! Requests to kept streams: at the address of one, or where a client finds one by its name.
//!
//! They pass the `auth` of the route of the stream, like every request of that route. For a client that does not own
//! the stream it does not exist.

use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Request, Response};
use percent_encoding::percent_decode_str;

use super::admission::Admission;
use super::body::ResponseBody;
use super::kept::answer::{self, PREFIX};
use super::kept::owner::{Owner, OwnerTag};
use super::kept::stream::{CancelReason, KeptStream, ResumedBy};
use super::kept_origin::is_foreign;
use super::kept_resume::{KeptResume, requested_position};
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::route_table::RouteTable;
use super::{Service, cors};
use crate::auth::AuthRequest;
use crate::proxy::Proxy;
use crate::route::{KeepSettings, Matched, ResumePlace, Route};
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;

/// What may be done with a kept stream.
const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::DELETE];

/// What a request asks of a kept stream.
#[derive(Debug)]
pub(super) enum KeptErrand {
    /// It is at the address of this stream; `None`: there is no such stream.
    Address(Option<Arc<KeptStream>>),
    /// It asks for the running stream of this name. `path`: the path of the request that began the stream.
    Name { key: String, path: Option<String> },
}

/// Finds the stream of another gateway by the address of a request, if it can be one of another gateway.
///
/// # Errors
/// Redis cannot be asked.
pub(super) async fn find_elsewhere<B>(
    service: &Service,
    routes: &RouteTable,
    request: &Request<B>,
) -> Result<Option<Arc<KeptStream>>, Rejection> {
    let Some(id) = request.uri().path().strip_prefix(PREFIX) else { return Ok(None) };
    if !shares(service, routes) {
        return Ok(None);
    }
    let settings = |scope: &str| {
        let route = routes.kept_routes().find(|route| *route.scope == *scope);
        route.and_then(|route| route.settings.keep.clone())
    };
    if *request.method() == Method::OPTIONS {
        // A preflight has no owner, and does not wait: it does a single lookup.
        return Ok(service.kept().look(id, settings).await.unwrap_or_default());
    }
    if service.kept().get(id).is_some() {
        return Ok(None);
    }
    Ok(service.kept().look_again(id, settings).await?)
}

/// Whether any route keeps streams for all gateways.
fn shares(service: &Service, routes: &RouteTable) -> bool {
    let shares = |route: &Route| {
        route.settings.keep.as_deref().is_some_and(|keep| service.kept().store(keep).is_some())
    };
    routes.kept_routes().any(shares)
}

/// Hides whether there is a stream from a client that does not own it, or that `auth` refuses: takes as long as a
/// lookup of a stream that does not exist.
///
/// # Errors
/// Those of `admitted`; or Redis cannot be asked, as if there were no stream.
pub(super) async fn hide(
    service: &Service,
    (routes, method): (&RouteTable, &Method),
    errand: &KeptErrand,
    admitted: Result<Admission, Rejection>,
) -> Result<Admission, Rejection> {
    let KeptErrand::Address(Some(stream)) = errand else { return admitted };
    let owner = admitted.as_ref().ok().and_then(|admission| admission.owner.as_ref());
    let is_own = owner.is_some_and(|owner| owner.tag.is(&stream.request.owner));
    if !is_own && *method != Method::OPTIONS && shares(service, routes) {
        service.kept().look_away().await?;
    }
    admitted
}

/// Finds the route of a request to a kept stream; `None` if it is not such a request. `elsewhere` is the stream of
/// another gateway. If there is no stream, a route that keeps streams refuses the request as the route of the stream
/// would, after the same lookups and its `auth`: neither the response nor its time reveals whether the stream exists.
///
/// # Errors
/// Two parties could read the request differently.
pub(super) fn find<'r, B>(
    service: &Service,
    routes: &'r RouteTable,
    (request, info): (&Request<B>, &RequestInfo),
    elsewhere: Option<Arc<KeptStream>>,
) -> Option<Result<(&'r Route, KeptErrand), Rejection>> {
    let path = request.uri().path();
    if !routes.keeps() {
        return None;
    }
    if let Some(id) = path.strip_prefix(PREFIX) {
        let host = match RouteTable::screen(request, info) {
            Ok(host) => host,
            Err(rejection) => return Some(Err(rejection)),
        };
        let stand_in = stand_in(service, routes, host.as_deref(), id)?;
        let stream = service.kept().get(id).or(elsewhere);
        let scope = stream.as_deref().map_or(&stand_in.scope, |stream| &stream.request.scope);
        // A reload may have removed the route.
        let route = routes.kept_route(scope);
        let stream = stream.filter(|_| route.is_some());
        return Some(Ok((route.unwrap_or(stand_in), KeptErrand::Address(stream))));
    }
    if !routes.kept_routes().any(|route| place(route, path).is_some()) {
        return None;
    }
    let host = RouteTable::screen(request, info).ok()?;
    let found = routes
        .kept_routes()
        .find_map(|route| name(routes, route, host.as_deref(), path).map(|errand| (route, errand)));
    found.map(Ok)
}

/// The route that refuses requests to this address if there is no stream: one of those that keep streams at this host,
/// always the same for the same address.
fn stand_in<'r>(
    service: &Service,
    routes: &'r RouteTable,
    host: Option<&str>,
    id: &str,
) -> Option<&'r Route> {
    let is_at_host =
        |route: &&Route| route.settings.host.is_none() || route.settings.host.as_deref() == host;
    let at_host: Vec<_> = routes.kept_routes().filter(is_at_host).collect();
    let all = || routes.kept_routes().next();
    at_host.get(service.kept().draw(id, at_host.len())).copied().or_else(all)
}

/// Parses a path at which a client finds the running streams of a route by their names.
fn place<'a>(route: &'a Route, path: &'a str) -> Option<(&'a KeepSettings, ResumePlace<'a>)> {
    let keep = route.settings.keep.as_deref()?;
    Some((keep, keep.resume_at.as_ref()?.find(path)?))
}

/// Returns the name in a path at which a client finds the running stream of a name.
fn name(routes: &RouteTable, route: &Route, host: Option<&str>, path: &str) -> Option<KeptErrand> {
    let settings = &route.settings;
    let (keep, place) = place(route, path)?;
    let is_of_route = match place.path {
        Some(path) => keep.methods.iter().any(|method| {
            let matched = routes.router().find(host, path, method, None);
            matches!(matched, Matched::Route(other, _) if std::ptr::eq(other, route))
        }),
        None => settings.host.is_none() || settings.host.as_deref() == host,
    };
    is_of_route.then(|| KeptErrand::Name {
        key: percent_decode_str(place.key).decode_utf8_lossy().into_owned(),
        path: place.path.map(str::to_owned),
    })
}

/// Responds to an admitted request.
///
/// # Errors
/// The client does not own the stream, the page of another origin asks for it, or it is not available any more.
pub(super) async fn respond(
    service: &Service,
    (route, proxy): (&Route, &Proxy),
    errand: &KeptErrand,
    (request, info, admission): (&Request<RequestBody>, &RequestInfo, &Admission),
    connection: Rc<ConnectionState>,
) -> Result<Response<ResponseBody>, Rejection> {
    let settings = &route.settings;
    if info.preflight.is_some() || admission.is_preflight {
        return Ok(cors::preflight(&settings.cors, info.origin.as_ref(), cors::KEEPING));
    }
    if !METHODS.contains(&info.method) {
        return Err(Rejection::Method(METHODS.to_vec()));
    }
    let own = admission.owner.as_ref();
    let streams = match errand {
        KeptErrand::Address(stream) => {
            let of = stream.as_deref().map_or(&OwnerTag::NOBODY, |stream| &stream.request.owner);
            let is_own = own.is_some_and(|owner| owner.tag.is(of));
            let stream = stream.as_ref().filter(|_| is_own).ok_or(Rejection::NoStream)?;
            vec![Arc::clone(stream)]
        }
        KeptErrand::Name { key, path } => {
            let owner_and_keep = own.zip(settings.keep.as_ref());
            match owner_and_keep {
                Some(of) => named(service, of, key, path.as_deref()).await?,
                None => Vec::new(),
            }
        }
    };
    let is_tls = connection.is_tls();
    if own.is_some() && is_foreign((&AuthRequest::new(request), is_tls), route, own) {
        service.metrics().auth_refused("foreign_origin");
        return Err(Rejection::ForeignOrigin);
    }
    let is_named = matches!(errand, KeptErrand::Name { .. });
    // A DELETE would stop nothing either, and yet report success.
    let is_missed = is_named && streams.iter().all(|stream| stream.is_ended());
    let shares = |keep: &&Arc<KeepSettings>| service.kept().store(keep).is_some();
    if is_missed && own.is_some() && settings.keep.as_ref().filter(shares).is_some() {
        service.kept().expect_all().await?;
    }
    if info.method == Method::DELETE {
        if let (KeptErrand::Name { key, path }, Some((owner, keep))) =
            (errand, own.zip(settings.keep.as_ref()))
        {
            for method in &keep.methods {
                let name = service.kept().name(keep, &owner.tag, (method, key));
                let path = path.as_deref();
                service.kept().cancel_waiting(&name, path);
                service.kept().cancel_named_elsewhere((keep, &name), path).await?;
            }
        }
        // All running streams of the name: a repeated DELETE must not stop another one.
        for stream in streams.iter().filter(|stream| !stream.is_ended()) {
            service.kept().cancel(stream, CancelReason::Deleted).await?;
        }
        return Ok(answer::nothing());
    }
    let (wanted, by) = match errand {
        KeptErrand::Address(_) => (streams.first(), ResumedBy::Address),
        KeptErrand::Name { .. } => {
            (streams.iter().find(|stream| !stream.is_ended()), ResumedBy::Name)
        }
    };
    if info.method == Method::HEAD {
        return Ok(match (wanted, streams.first()) {
            (Some(stream), _) => answer::again(stream, info.origin.as_ref(), ResponseBody::empty()),
            (None, Some(ended)) => answer::nothing_of(ended, info.origin.as_ref()),
            (None, None) => answer::nothing(),
        });
    }
    let Some(stream) = wanted else { return Ok(answer::nothing()) };
    let gone = match errand {
        KeptErrand::Address(_) => Err(Rejection::NoStream),
        KeptErrand::Name { .. } => Ok(answer::nothing()),
    };
    let position = requested_position(request, stream);
    let Some(stream) = service.readable((stream, &position)).await? else { return gone };
    let resume = KeptResume { service, route, proxy, info, admission, connection };
    resume.open(stream, &position, by)
}

/// The streams of a name, running and ended, the newest first. `path`: only those requested at this path.
///
/// # Errors
/// Redis cannot be asked for those of other gateways.
async fn named(
    service: &Service,
    (owner, keep): (&Owner, &Arc<KeepSettings>),
    key: &str,
    path: Option<&str>,
) -> Result<Vec<Arc<KeptStream>>, Rejection> {
    let kept = service.kept();
    let mut streams = Vec::new();
    for method in &keep.methods {
        let name = kept.name(keep, &owner.tag, (method, key));
        streams.extend(kept.named(&name));
        let index = kept.name_index(&name);
        let elsewhere = kept.elsewhere((keep, &index)).await?;
        let is_any = !elsewhere.is_empty();
        streams.extend(elsewhere);
        if is_any {
            streams.sort_by_key(|stream| std::cmp::Reverse(stream.began_at));
        }
    }
    streams.retain(|stream| path.is_none_or(|path| *path == *stream.request.path));
    Ok(streams)
}
