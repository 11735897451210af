//! Requests to kept streams: at the address of one, or where a client finds one by its name.
//!
//! They pass the `auth` of the route whose stream it is, like every request of that route. To whom a stream does
//! not belong, there is none.

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

/// What a request wants of a kept stream.
#[derive(Debug)]
pub(super) enum KeptErrand {
    /// It is at the address of this one; `None`: of none.
    Address(Option<Arc<KeptStream>>),
    /// It asks for the running stream of this name; `path`: that of the request that began it.
    Name { key: String, path: Option<String> },
}

/// Finds the route of a request to a kept stream; `None` if it is none. Where there is no stream, some route that
/// keeps streams refuses the request as that of the stream would, behind the same look-ups and its `auth`: neither
/// the response nor its time tells whether there is one.
///
/// # Errors
/// Two parties could read the request differently.
pub(super) fn find<'r, B>(
    service: &Service,
    routes: &'r RouteTable,
    request: &Request<B>,
    info: &RequestInfo,
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
        let stream = service.kept().get(id);
        let scope = stream.as_deref().map_or(&stand_in.scope, |stream| &stream.request.scope);
        // A reload may have taken it away.
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

/// The route that refuses requests to this address if there is no stream: of those that keep streams at this host, always
/// the same for the same address.
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

/// Where a client finds the running streams of a route by their names, if this path is such a place.
fn place<'a>(route: &'a Route, path: &'a str) -> Option<(&'a KeepSettings, ResumePlace<'a>)> {
    let keep = route.settings.keep.as_deref()?;
    Some((keep, keep.resume_at.as_ref()?.find(path)?))
}

/// What a path says if it is where a client finds the running stream of a name.
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
/// The stream is not the client's, or the page of another origin asks for it, or it cannot be had any more.
pub(super) fn respond(
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
            let owner_and_keep = own.zip(settings.keep.as_deref());
            owner_and_keep.map_or_else(Vec::new, |of| named(service, of, key, path.as_deref()))
        }
    };
    let is_tls = connection.is_tls();
    if own.is_some() && is_foreign((&AuthRequest::new(request), is_tls), route, own) {
        service.metrics().auth_refused("foreign_origin");
        return Err(Rejection::ForeignOrigin);
    }
    if info.method == Method::DELETE {
        if let (KeptErrand::Name { key, path }, Some((owner, keep))) =
            (errand, own.zip(settings.keep.as_deref()))
        {
            for method in &keep.methods {
                service.kept().cancel_waiting(&owner.tag, (method, key), path.as_deref());
            }
        }
        // All that run of a name: a DELETE that is repeated must not stop another.
        streams.iter().for_each(|stream| stream.cancel(CancelReason::Deleted));
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
    let Some(stream) = wanted.cloned() else { return Ok(answer::nothing()) };
    let position = requested_position(request, &stream);
    let resume = KeptResume { service, route, proxy, info, admission, connection };
    resume.open(stream, &position, by)
}

/// The streams of a name, running and ended, the newest first. `path`: of requests to this path.
fn named(
    service: &Service,
    (owner, keep): (&Owner, &KeepSettings),
    key: &str,
    path: Option<&str>,
) -> Vec<Arc<KeptStream>> {
    let methods = keep.methods.iter();
    let named = methods.flat_map(|method| service.kept().named(&owner.tag, method, key));
    let is_of_path = |path: &str, stream: &KeptStream| path == &*stream.request.path;
    named.filter(|stream| path.is_none_or(|path| is_of_path(path, stream))).collect()
}
