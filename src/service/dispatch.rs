//! The path of a request: finds its route, admits it, and hands it to the route's target.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode};

use super::admission::{Admission, Applicant};
#[cfg(test)]
use super::contained;
use super::kept::stream::KeptStream;
use super::kept_address::KeptErrand;
use super::presence::PresenceErrand;
use super::proxy_handler::ProxyHandler;
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::response_end::time;
use super::route_auth::RouteAuth;
use super::route_table::RouteTable;
use super::{
    ResponseBody, Service, cors, demo, events, kept_address, presence, publish, screening,
    start_page,
};
use crate::metrics::RouteMetrics;
use crate::route::{ChannelError, Parameters, Route};
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;

/// What a request asks of its route.
enum Errand {
    /// The target of the route.
    Route(Parameters),
    /// A kept stream of the route.
    Kept(KeptErrand),
    /// The presence of the channels of the route.
    Presence(PresenceErrand),
}

impl Errand {
    /// The parameters of the path of the route.
    fn parameters(&self) -> Option<&Parameters> {
        match self {
            Self::Route(parameters) | Self::Presence(PresenceErrand { parameters, .. }) => {
                Some(parameters)
            }
            Self::Kept(_) => None,
        }
    }
}

impl Service {
    /// Responds to a request.
    pub(super) async fn respond(
        &self,
        mut request: Request<RequestBody>,
        info: &RequestInfo,
        connection: Rc<ConnectionState>,
    ) -> Response<ResponseBody> {
        #[cfg(test)]
        assert_ne!(request.uri().path(), contained::tests::PANICS);
        let routes = self.routes();
        // Boxed, and nothing is held meanwhile: keeps the future of other requests small.
        let found = match routes.keeps() {
            true => Box::pin(self.find_kept(&routes, &request, &connection)).await,
            false => self.limit(&request, &connection).map(|()| None),
        };
        let (view, of_routes) = ((&request, info), &routes);
        let kept = |elsewhere| kept_address::find(self, of_routes, view, elsewhere);
        let found = found.and_then(|elsewhere| match kept(elsewhere) {
            Some(found) => found.map(|(route, errand)| (route, Errand::Kept(errand))),
            None => match presence::find(&routes, &request, info) {
                Some((route, errand)) => Ok((route, Errand::Presence(errand))),
                None => {
                    let found = routes.find(&request, info);
                    found.map(|(route, parameters)| (route, Errand::Route(parameters)))
                }
            },
        });
        match found {
            Ok((route, errand)) => {
                if let Errand::Presence(errand) = &errand {
                    request.uri_mut().clone_from(&errand.stream);
                }
                let found = (route, routes.backend(route), routes.auth(route));
                self.dispatch(found, &errand, request, info, connection).await
            }
            Err(rejection) => self.reject(&self.0.unrouted, &rejection, info),
        }
    }

    async fn dispatch(
        &self,
        (route, backend, auth): (&Route, Option<&ProxyHandler>, Option<&RouteAuth>),
        errand: &Errand,
        mut request: Request<RequestBody>,
        info: &RequestInfo,
        connection: Rc<ConnectionState>,
    ) -> Response<ResponseBody> {
        let metrics = self.metrics_of(route);
        info.note(|log| log.note_route(&metrics));
        let is_loopback = connection.client().is_loopback();
        let admitted = match auth {
            Some(auth) => {
                let query = request.uri().query().unwrap_or_default();
                let channels = route.channels.as_ref().filter(|_| auth.backends.ask_by_channel());
                let names = channels.zip(errand.parameters());
                let names =
                    names.and_then(|(channels, parameters)| channels.requested(parameters, query));
                let request = (&request, info, names.as_deref());
                let applicant = Applicant::new((route, auth), request, &connection);
                match self.admit_at_once(applicant) {
                    Some(admitted) => admitted,
                    // Boxed: keeps the future of other requests small.
                    None => Box::pin(self.admit(applicant)).await,
                }
            }
            None => Ok(Admission::default()),
        };
        // Before the credentials are removed.
        let admitted = admitted.map(|admission| self.name_owner(route, &request, admission));
        let admitted = match errand {
            Errand::Kept(kept) => {
                let routes = self.routes();
                let request = (&*routes, request.method());
                // Boxed: keeps the future of other requests small.
                Box::pin(kept_address::hide(self, request, kept, admitted)).await
            }
            Errand::Route(_) | Errand::Presence(_) => admitted,
        };
        if let Some(auth) = auth {
            auth.authenticator.remove_tokens(&mut request);
        }
        let result = match admitted {
            Err(rejection) => Err(rejection),
            Ok(admission) => {
                if let Some(identity) = &admission.identity {
                    info.note(|log| log.note_identity(identity));
                }
                let request = (request, info, &admission);
                self.lead((route, backend), errand, request, &metrics, connection).await
            }
        };
        let is_rejected = result.is_err();
        let mut response = match result {
            Ok(response) => {
                metrics.response_sent(response.status().as_u16());
                time(info.received_at, metrics, response)
            }
            Err(rejection) => {
                if let Rejection::Channel(ChannelError::NotAllowed(why)) = &rejection {
                    self.metrics().auth_refused("not_allowed");
                    tracing::debug!(route = metrics.label(), why, "not allowed");
                }
                if let Rejection::Handover(error) = &rejection {
                    route.warn(error.as_str(), |held_back| {
                        let route = metrics.label();
                        tracing::warn!(route, %error, held_back, "handover failed");
                    });
                }
                let rejected = self.reject(&metrics, &rejection, info);
                match start_page::applies(&rejection, info, is_loopback) {
                    true => start_page::page(),
                    false => rejected,
                }
            }
        };
        // Allows a page to read why it was refused; other responses of a backend have the backend's own
        // fields.
        let is_kept = matches!(errand, Errand::Kept(_));
        let is_own = route.channels.is_some() || route.publish.is_some() || is_kept;
        // A kept stream that does not exist has no route.
        let is_nothing = is_kept && response.status() == StatusCode::NOT_FOUND;
        if info.preflight.is_none() && (is_own || is_rejected) && !is_nothing {
            cors::allow(&route.settings.cors, info.origin.as_ref(), response.headers_mut());
        }
        response
    }

    /// Finds the kept stream of another gateway for a request to its address, within the limits of the
    /// client.
    async fn find_kept(
        &self,
        routes: &RouteTable,
        request: &Request<RequestBody>,
        connection: &Rc<ConnectionState>,
    ) -> Result<Option<Arc<KeptStream>>, Rejection> {
        self.limit(request, connection)?;
        kept_address::find_elsewhere(self, routes, request).await
    }

    /// Sets the owner of a request to a route with `keep`.
    fn name_owner(
        &self,
        route: &Route,
        request: &Request<RequestBody>,
        mut admission: Admission,
    ) -> Admission {
        let Some(keep) = &route.settings.keep else { return admission };
        let host = screening::host(request).ok().flatten().unwrap_or_default();
        let credentials = (request.headers(), admission.identity.as_ref());
        admission.owner = self.kept().owner_of((&host, &route.scope), keep, credentials);
        admission
    }

    /// Hands an admitted request to the route's target.
    async fn lead(
        &self,
        (route, backend): (&Route, Option<&ProxyHandler>),
        errand: &Errand,
        (request, info, admission): (Request<RequestBody>, &RequestInfo, &Admission),
        metrics: &Arc<RouteMetrics>,
        connection: Rc<ConnectionState>,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let parameters = match errand {
            Errand::Route(parameters) => parameters,
            Errand::Kept(errand) => {
                let proxy = backend.ok_or(Rejection::NotFound)?.proxy();
                let request = (&request, info, admission);
                let respond =
                    kept_address::respond(self, (route, proxy), errand, request, connection);
                // Boxed: keeps the future of other requests small.
                return Box::pin(respond).await;
            }
            Errand::Presence(errand) => {
                let channels = route.channels.as_ref().ok_or(Rejection::NotFound)?;
                let request = (request, info, admission);
                // Boxed: keeps the future of other requests small.
                return Box::pin(presence::respond(self, (route, channels), errand, request)).await;
            }
        };
        if let Some(channels) = &route.channels {
            let request = (&request, info, admission);
            return events::open(self, route, channels, parameters, request, connection);
        }
        if let Some(publish) = &route.publish {
            let request = (request, info, admission.identity.as_ref());
            let routes = self.routes();
            let means = (&self.0.publisher, routes.router(), metrics);
            let (route, is_tls) = ((route, publish), connection.is_tls());
            // Boxed: keeps the future of other requests small.
            return Box::pin(publish::respond(means, route, parameters, request, is_tls)).await;
        }
        match backend {
            Some(backend) => {
                backend.respond((self, route), (request, info, admission), connection).await
            }
            None => demo::respond(&self.0.publisher, request).await,
        }
    }
}
