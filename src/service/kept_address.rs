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
use super::kept::owner::Owner;
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

/// What a request wants of a kept stream.
#[derive(Debug)]
pub(super) enum KeptErrand {
    /// It is at the address of this one.
    Address(Arc<KeptStream>),
    /// It asks for the running stream of this name; `path`: that of the request that began it.
    Name { key: String, path: Option<String> },
}

/// Finds the route of a request to a kept stream; `None` if it is none.
///
/// # Errors
/// There is no such stream, or two parties could read the request differently.
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
        if let Err(rejection) = RouteTable::screen(request, info) {
            return Some(Err(rejection));
        }
        let found = service.kept().get(id).and_then(|stream| {
            let route = routes.kept_route(&stream.request.scope)?;
            Some((route, KeptErrand::Address(stream)))
        });
        return Some(found.ok_or(Rejection::NotFound));
    }
    let may_be = |route: &Route| place(route, path).is_some();
    if info.method != Method::GET || !routes.kept_routes().any(may_be) {
        return None;
    }
    let host = RouteTable::screen(request, info).ok()?;
    let found = routes.kept_routes().find_map(|route| {
        named(routes, route, host.as_deref(), path).map(|errand| (route, errand))
    });
    found.map(Ok)
}

/// Where a client finds the running streams of a route by their names, if this path is such a place.
fn place<'a>(route: &'a Route, path: &'a str) -> Option<(&'a KeepSettings, ResumePlace<'a>)> {
    let keep = route.settings.keep.as_deref()?;
    Some((keep, keep.resume_at.as_ref()?.find(path)?))
}

/// What a path says if it is where a client finds the running stream of a name.
fn named(routes: &RouteTable, route: &Route, host: Option<&str>, path: &str) -> Option<KeptErrand> {
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
    let is_tls = connection.is_tls();
    let resume = KeptResume { service, route, proxy, info, admission, connection };
    let own = admission.owner.as_ref();
    let stream = match errand {
        KeptErrand::Address(stream) => {
            let is_own = own.is_some_and(|owner| owner.tag.is(&stream.request.owner));
            own.filter(|_| is_own).ok_or(Rejection::NotFound)?;
            Arc::clone(stream)
        }
        KeptErrand::Name { key, path } => {
            let keep = settings.keep.as_deref();
            let found = own
                .zip(keep)
                .and_then(|(owner, keep)| running(service, (owner, keep), key, path.as_deref()));
            let Some(stream) = found else { return Ok(answer::nothing()) };
            stream
        }
    };
    let is_foreign = is_foreign((&AuthRequest::new(request), is_tls), route, own);
    if is_foreign {
        service.metrics().auth_refused("foreign_origin");
        return Err(Rejection::ForeignOrigin);
    }
    match (&info.method, errand) {
        (&Method::GET, KeptErrand::Address(_)) => {
            let position = requested_position(request, &stream);
            resume.open(stream, &position, ResumedBy::Address)
        }
        (&Method::GET, KeptErrand::Name { .. }) => {
            let position = requested_position(request, &stream);
            resume.open(stream, &position, ResumedBy::Name)
        }
        (&Method::HEAD, _) => {
            Ok(answer::again(&stream, info.origin.as_ref(), ResponseBody::empty()))
        }
        (&Method::DELETE, _) => {
            stream.cancel(CancelReason::Deleted);
            Ok(answer::nothing())
        }
        _ => Err(Rejection::Method(vec![Method::GET, Method::HEAD, Method::DELETE])),
    }
}

/// The newest stream of a name that runs.
fn running(
    service: &Service,
    (owner, keep): (&Owner, &KeepSettings),
    key: &str,
    path: Option<&str>,
) -> Option<Arc<KeptStream>> {
    let named =
        keep.methods.iter().flat_map(|method| service.kept().named(&owner.tag, method, key));
    let mut running = named.filter(|stream| {
        !stream.is_ended() && path.is_none_or(|path| path == &*stream.request.path)
    });
    running.next()
}
