//! A request for a backend, and what becomes of its answer: it is passed on, looked after where it
//! is a stream of events, or held where the backend hands a stream over.

use std::rc::Rc;
use std::time::SystemTime;

use http::{Method, Request, Response};
use http_body::Body as _;

use super::asked::Asked;
use super::body::ResponseBody;
use super::handover::{self, Handing};
use super::passing::{self, PassingStream};
use super::rejection::Rejection;
use super::{Service, events, last_hop};
use crate::grip;
use crate::grip::instruct;
use crate::grip::signature::{GRIP_SIG, Signer};
use crate::proxy::{Forwarded, Proxy, UpstreamBody};
use crate::route::Route;
use crate::server::connection::ConnectionState;
use crate::server::event_stream::is_event_stream;
use crate::server::request_body::RequestBody;

/// What answers the requests of one proxy route.
#[derive(Debug)]
pub(super) struct Backend {
    proxy: Proxy,
    // Where streams may be handed over.
    signer: Option<Signer>,
}

impl Backend {
    pub(super) fn new(proxy: Proxy, route: &Route) -> Self {
        let settings = route.handover.as_ref().map(|handover| &handover.settings);
        let signer = settings.map(|settings| Signer::new(&settings.key, &settings.issuer));
        Self { proxy, signer }
    }

    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Asks the backend, and answers with what comes of it.
    pub(super) async fn answer(
        &self,
        (service, route): (&Service, &Route),
        mut request: Request<RequestBody>,
        asked: &Asked,
        connection: Rc<ConnectionState>,
    ) -> Result<Response<ResponseBody>, Rejection> {
        if let Some(name) = self.proxy.refused_name(request.headers()) {
            return Err(Rejection::Underscore(name.clone()));
        }
        if last_hop::is_last(&mut request) {
            return last_hop::answer(request.method(), route);
        }
        let last_event_id = route.handover.as_ref().and_then(|_| events::last_event_id(&request));
        let is_told_position = route.handover.as_ref().is_some_and(|handover| {
            events::is_told_position(handover.channels.ready(), request.headers())
        });
        // What a client says of streams is not for the backend to believe.
        grip::strip(request.headers_mut());
        let signature = self.signer.as_ref().and_then(|signer| signer.header(SystemTime::now()));
        let signature = signature.map(|signature| (GRIP_SIG, signature));
        let plain_text = asked.accepts_stream.then_some(passing::PLAIN_TEXT);
        let ours: Vec<_> = signature.into_iter().chain(plain_text).collect();
        let forwarded = self.proxy.forward(request, &connection, &ours).await;
        let mut response = match forwarded.map_err(Rejection::Upstream)? {
            Forwarded::Response(response) => response,
            Forwarded::Tunnel(mut response) => {
                grip::strip(response.headers_mut());
                return Ok(response.map(ResponseBody::Tunnel));
            }
        };
        let hold = instruct::hold(response.headers());
        grip::strip(response.headers_mut());
        match (hold, &route.handover) {
            (Ok(None), _) => Ok(self.pass_on((service, route), response, asked, connection)),
            (Ok(Some(hold)), Some(handover)) => {
                let handing =
                    Handing { service, route, handover, asked, last_event_id, is_told_position };
                handover::hold(handing, response, hold, connection)
            }
            (Err(error), Some(_)) => Err(Rejection::Handover(error.into())),
            (_, None) => {
                route.warn("no_handover", |held_back| {
                    let route = &route.settings.path;
                    tracing::warn!(
                        route,
                        held_back,
                        "the backend hands a stream over, and the route has no handover: passed on"
                    );
                });
                Ok(self.pass_on((service, route), response, asked, connection))
            }
        }
    }

    /// A backend's response; an event stream is looked after.
    fn pass_on(
        &self,
        (service, route): (&Service, &Route),
        mut response: Response<UpstreamBody>,
        asked: &Asked,
        connection: Rc<ConnectionState>,
    ) -> Response<ResponseBody> {
        if !is_event_stream(response.headers()) {
            return response.map(ResponseBody::upstream);
        }
        passing::forbid_buffering(response.headers_mut());
        if asked.method == Method::HEAD || response.body().is_end_stream() {
            return response.map(ResponseBody::upstream);
        }
        let (head, body) = response.into_parts();
        if passing::is_encoded(&head.headers) {
            service.metrics_of(route).encoded_stream_passed();
        }
        let cut = connection.cut_for_current_request();
        let counted = (service, service.count_stream(route, connection));
        let keep_alive = self.proxy.stream_keep_alive();
        let stream = PassingStream::new(body, &head.headers, keep_alive, counted, cut);
        Response::from_parts(head, ResponseBody::Passing(Box::new(stream)))
    }
}
