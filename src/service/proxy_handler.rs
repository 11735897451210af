//! Requests of proxy routes: forwards them and handles the backend's response.
//!
//! A plain response is relayed; an event stream is relayed with keep-alive comments
//! ([`backend_stream`]); a response with `Grip-Hold` becomes a stream of the gateway
//! ([`handover`]).

use std::pin::Pin;
use std::rc::Rc;
use std::time::SystemTime;

use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body as _;
use ssegate_auth::Identity;
use ssegate_hub::CloseReason;
use tokio::time::Instant;

use super::admission::Admission;
use super::backend_stream::{self, BackendStream, StreamSource};
use super::body::ResponseBody;
use super::handover::{self, HandoverContext};
use super::kept::answer;
use super::kept_detach;
use super::kept_request::{self, Kept, KeptRequestOutcome};
use super::kept_resume::KeptResume;
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::shared_request::SharedErrand;
use super::stream_stopper::StreamStopper;
use super::{Service, cors, events, max_forwards, stream_head};
use crate::auth::HeaderTemplate;
use crate::grip;
use crate::grip::instruct;
use crate::grip::signature::{GRIP_SIG, Signer};
use crate::proxy::{ForwardContext, Forwarded, Proxy, ProxyError, UpstreamBody};
use crate::route::{ReservedHeaders, Route};
use crate::server::connection::ConnectionState;
use crate::server::event_stream::is_event_stream;
use crate::server::request_body::RequestBody;

/// Header fields of the gateway's own.
type FieldList = Vec<(HeaderName, HeaderValue)>;

/// The handler of one proxy route.
#[derive(Debug)]
pub(super) struct ProxyHandler {
    proxy: Proxy,
    // Signs `Grip-Sig`, on routes with a handover.
    signer: Option<Signer>,
    // Header fields that only the gateway may send to backends.
    reserved: ReservedHeaders,
}

impl ProxyHandler {
    /// The handler of `route`. `reserved` are the header fields that only the gateway may send to backends.
    pub(super) fn new(proxy: Proxy, route: &Route, reserved: &ReservedHeaders) -> Self {
        let settings = route.handover.as_ref().map(|handover| &handover.settings);
        let signer = settings.map(|settings| Signer::new(&settings.key, &settings.issuer));
        Self { proxy, signer, reserved: reserved.clone() }
    }

    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Forwards the request and returns the response for the client.
    pub(super) async fn respond(
        &self,
        (service, route): (&Service, &Route),
        (mut request, info, admission): (Request<RequestBody>, &RequestInfo, &Admission),
        connection: Rc<ConnectionState>,
    ) -> Result<Response<ResponseBody>, Rejection> {
        if admission.is_preflight {
            let (cors, origin) = (&route.settings.cors, info.origin.as_ref());
            return Ok(cors::preflight_for_backend(cors, origin, request.headers()));
        }
        if let Some(name) = self.proxy.refused_header(request.headers()) {
            return Err(Rejection::Underscore(name.clone()));
        }
        if max_forwards::is_last(&mut request) {
            return max_forwards::respond(request.method(), route);
        }
        if let Some(share) = &route.settings.share {
            // The question has the fields that the backend would be sent.
            grip::strip(request.headers_mut());
            self.reserved.strip(request.headers_mut());
            let identity = &identity_fields(&self.proxy.settings().pass, admission);
            let proxy = &self.proxy;
            let errand = SharedErrand { service, route, proxy, info, admission, identity };
            // Boxed: keeps the future of other requests small.
            let responding = Box::pin(errand.respond(&request, share, &connection));
            if let Some(response) = responding.await? {
                return Ok(response);
            }
        }
        let keep = route.settings.keep.as_ref();
        let keeping = match keep {
            Some(keep) => {
                let resume = self.resume((service, route), (info, admission), &connection);
                let (owner, is_tls) = (admission.owner.as_ref(), connection.is_tls());
                let begun =
                    kept_request::begin((keep, &route.scope), request, owner, is_tls, resume);
                // Boxed: keeps the future of other requests small.
                match Box::pin(begun).await? {
                    KeptRequestOutcome::Respond(response) => return Ok(response),
                    KeptRequestOutcome::Forward(forwarded, keeping) => {
                        request = forwarded;
                        keeping
                    }
                }
            }
            None => None,
        };
        let last_event_id = route.handover.as_ref().and_then(|_| events::last_event_id(&request));
        let is_told_position = route.handover.as_ref().is_some_and(|handover| {
            events::is_told_position(handover.channels.ready(), request.headers())
        });
        let tag = route.handover.as_ref().map_or(0, |_| service.tag(route, &request, &connection));
        // Grip headers of a client must not reach the backend, which would trust them.
        grip::strip(request.headers_mut());
        let signature = self.signer.as_ref().and_then(|signer| signer.header(SystemTime::now()));
        let signature = signature.map(|signature| (GRIP_SIG, signature));
        // A stream in a content coding cannot be kept.
        let is_plain = info.accepts_stream || (keeping.is_some() && info.method == Method::POST);
        let plain_text = is_plain.then_some(backend_stream::PLAIN_TEXT);
        // A client must not send fields with which the gateway identifies clients.
        self.reserved.strip(request.headers_mut());
        let passed = identity_fields(&self.proxy.settings().pass, admission);
        let ours: FieldList = signature.into_iter().chain(plain_text).chain(passed).collect();
        let asked_at = info.is_logged().then(Instant::now);
        let (forwarded, keeping) = match (keep, keeping) {
            (Some(keep), Some(keeping)) if keeping.can_be_found(keep) => {
                let forwarding = self.forward_alone(request, &connection, (ours, admission));
                let (forwarded, keeping) =
                    kept_detach::forward(forwarding, keeping, keep, service).await?;
                (forwarded, Some(keeping))
            }
            (_, keeping) => {
                let (reserved, expires_at) = (&self.reserved, admission.expires_at);
                let context = ForwardContext { fields: &ours, reserved, expires_at };
                let forwarding = self.proxy.forward(request, &connection, context);
                let forwarded = match keeping.as_ref().and_then(|keeping| keeping.cancelled()) {
                    // Boxed: keeps the future of other requests small.
                    Some(cancelled) => {
                        Box::pin(kept_detach::unless_cancelled(forwarding, Some(cancelled))).await?
                    }
                    None => forwarding.await,
                };
                (forwarded, keeping)
            }
        };
        if let Some(asked_at) = asked_at {
            info.note(|log| log.note_upstream(asked_at.elapsed()));
        }
        let mut response = match forwarded.map_err(Rejection::Upstream)? {
            Forwarded::Response(response) => response,
            Forwarded::Tunnel(mut response, tunnel) => {
                // A stream over the limit is dropped, which closes it at the backend.
                let guard = service.admit_stream(admission);
                let guard = guard.inspect_err(|_rejection| connection.stay_http())?;
                grip::strip(response.headers_mut());
                let (tally, status) = (tunnel.tally(), response.status().as_u16());
                let log = info.take_log().map(|log| log.into_tunnel(status, Rc::clone(&tally)));
                let guard = guard.inspect(|guard| {
                    let ender = tunnel.ender();
                    let stop = move |why: CloseReason| {
                        tally.note_end(why.as_str());
                        ender.cancel();
                    };
                    guard.watch(Box::default(), StreamStopper::of(stop));
                });
                if guard.is_some() || log.is_some() {
                    tunnel.hold((guard, log));
                }
                return Ok(response.map(ResponseBody::Tunnel));
            }
        };
        let hold = instruct::parse(response.headers());
        grip::strip(response.headers_mut());
        match (hold, &route.handover) {
            (Ok(None), _) => {
                let response = match (keep, keeping) {
                    (Some(keep), Some(keeping)) => {
                        let resume = self.resume((service, route), (info, admission), &connection);
                        match keeping.keep(keep, response, resume)? {
                            Kept::Stream(response) => return Ok(response),
                            Kept::Not(response) => response,
                        }
                    }
                    (Some(_), None) if is_event_stream(response.headers()) => {
                        let is_nobody = admission.owner.is_none();
                        service.metrics().kept_passed(if is_nobody { "owner" } else { "request" });
                        response
                    }
                    _ => response,
                };
                self.pass_on((service, route), response, (info, admission), connection)
            }
            (Ok(Some(hold)), Some(handover)) => {
                let context = HandoverContext {
                    service,
                    route,
                    handover,
                    info,
                    admission,
                    last_event_id,
                    is_told_position,
                    tag,
                };
                handover::hold(context, response, hold, connection)
            }
            (Err(error), Some(_)) => Err(Rejection::Handover(error.into())),
            (_, None) => {
                route.warn("no_handover", |held_back| {
                    let route = &*route.label;
                    tracing::warn!(
                        route,
                        held_back,
                        "the backend sent Grip-Hold, but the route has no handover: response \
                         relayed unchanged"
                    );
                });
                self.pass_on((service, route), response, (info, admission), connection)
            }
        }
    }

    /// Forwards a request, even after its client has left.
    fn forward_alone(
        &self,
        request: Request<RequestBody>,
        connection: &Rc<ConnectionState>,
        (fields, admission): (FieldList, &Admission),
    ) -> Pin<Box<impl Future<Output = Result<Forwarded, ProxyError>> + 'static>> {
        let (proxy, connection) = (self.proxy.clone(), Rc::clone(connection));
        let (reserved, expires_at) = (self.reserved.clone(), admission.expires_at);
        Box::pin(async move {
            let context = ForwardContext { fields: &fields, reserved: &reserved, expires_at };
            proxy.forward(request, &connection, context).await
        })
    }

    /// The arguments to open a reader of a kept stream.
    fn resume<'a>(
        &'a self,
        (service, route): (&'a Service, &'a Route),
        (info, admission): (&'a RequestInfo, &'a Admission),
        connection: &Rc<ConnectionState>,
    ) -> KeptResume<'a> {
        let (proxy, connection) = (&self.proxy, Rc::clone(connection));
        KeptResume { service, route, proxy, info, admission, connection }
    }

    /// Relays a backend's response. An event stream is kept alive and counted.
    fn pass_on(
        &self,
        (service, route): (&Service, &Route),
        mut response: Response<UpstreamBody>,
        (info, admission): (&RequestInfo, &Admission),
        connection: Rc<ConnectionState>,
    ) -> Result<Response<ResponseBody>, Rejection> {
        if route.settings.keep.is_some() {
            answer::strip(response.headers_mut());
        }
        if !is_event_stream(response.headers()) {
            return Ok(response.map(ResponseBody::upstream));
        }
        stream_head::forbid_buffering(response.headers_mut());
        // As for the readers of a shared stream, unless the backend sends CORS headers itself.
        if route.settings.share.is_some()
            && !response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
        {
            let (cors, origin) = (&route.settings.cors, info.origin.as_ref());
            cors::allow(cors, origin, response.headers_mut());
        }
        if info.method == Method::HEAD || response.body().is_end_stream() {
            return Ok(response.map(ResponseBody::upstream));
        }
        let cut = connection.current_request_abort();
        let counted = (service, service.count_stream(route, admission, connection)?);
        let (head, body) = response.into_parts();
        if backend_stream::is_encoded(&head.headers) {
            service.metrics_of(route).encoded_stream_passed();
        }
        let timing = (self.proxy.stream_keep_alive(), admission.expires_at);
        let source = StreamSource::Upstream(Box::new(body));
        let stream = BackendStream::new(source, &head.headers, timing, counted, cut);
        Ok(Response::from_parts(head, ResponseBody::BackendStream(Box::new(stream))))
    }
}

/// The header fields that tell the backend the client's identity: those of the auth backend's response and
/// those of the route. A field of the route for which the identity has no value is left out.
fn identity_fields(
    pass: &[(HeaderName, HeaderTemplate)],
    admission: &Admission,
) -> Vec<(HeaderName, HeaderValue)> {
    let fill = |(name, template): &(HeaderName, HeaderTemplate)| {
        Some((name.clone(), template.fill(admission.identity.as_ref()?)?))
    };
    let copied = admission.identity.iter().flat_map(Identity::attributes);
    let copied = copied.filter_map(|(name, value)| {
        Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    copied.chain(pass.iter().filter_map(fill)).collect()
}
