//! What happens to a request of a route with `keep` before the backend gets it, and to the response after.
//!
//! A request that was made before, with the id of one of our events, gets the rest of its stream and does not reach the
//! backend: a second generation would cost money. If the stream is gone the request is refused.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use http::header::{UPGRADE, VARY};
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::backend_stream;
use super::body::ResponseBody;
use super::events::{self, LAST_EVENT_ID, LAST_EVENT_ID_KEYS};
use super::kept::about::KeptRequest;
use super::kept::answer::{self, SSEGATE_KEEP};
use super::kept::body_digest::DigestTap;
use super::kept::grant::KeptGrant;
use super::kept::owner::Owner;
use super::kept::pump::Pump;
use super::kept::reader::KeptReader;
use super::kept::registry::NotKept;
use super::kept::sender::KeptSender;
use super::kept::stream::{CancelReason, ResumedBy};
use super::kept::stream_id::parse_event_id;
use super::kept::waiting::WaitingRequest;
use super::kept_again::{continued, is_foreign_again, made_elsewhere};
use super::kept_body::read_body;
use super::kept_name::{StreamName, first_key, response_key};
use super::kept_origin::is_foreign;
use super::kept_resume::{KeptResume, position_of};
use super::rejection::Rejection;
use super::revocable::RevocableRequest;
use super::stream_stopper::StreamStopper;
use crate::auth::AuthRequest;
use crate::proxy::UpstreamBody;
use crate::query;
use crate::route::{KeepSettings, SameKey};
use crate::server::event_stream::is_event_stream;
use crate::server::request_body::RequestBody;

/// A stateful protocol, in which a client that leaves cancels (Model Context Protocol, "Streamable HTTP").
const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The same, of requests and responses; the first request has no version.
const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// A request whose response may be kept.
#[derive(Debug)]
pub(super) struct Keeping {
    request: KeptRequest,
    owner: Owner,
    key: Option<Box<str>>,
    // Whether the route lists the method.
    is_listed: bool,
    // What happens to other streams of the name: less than the route says, if the page may not cancel them.
    same_key: SameKey,
    has_origin: bool,
    // `None`: it has no name yet.
    waiting: Option<WaitingRequest>,
    // `None`: its credential cannot be revoked.
    revocable: Option<Rc<RevocableRequest>>,
    // The memory of the part of its body that was read.
    body: Option<KeptGrant>,
}

/// What happens to a request.
pub(super) enum KeptRequestOutcome {
    /// It is forwarded to the backend.
    Forward(Request<RequestBody>, Option<Box<Keeping>>),
    /// The gateway responds itself.
    Respond(Response<ResponseBody>),
}

/// Begins a request of a route with `keep`, for its owner.
///
/// # Errors
/// The stream of the request is gone, or a stream of its name runs already.
pub(super) async fn begin(
    (keep, scope): (&Arc<KeepSettings>, &Arc<str>),
    mut request: Request<RequestBody>,
    owner: Option<&Owner>,
    is_tls: bool,
    resume: KeptResume<'_>,
) -> Result<KeptRequestOutcome, Rejection> {
    let last = events::last_event_id(&request);
    let ours = last.as_deref().and_then(parse_event_id).map(|(id, _)| id.to_owned());
    let is_never = matches!(
        *request.method(),
        Method::HEAD | Method::OPTIONS | Method::CONNECT | Method::TRACE
    ) || request.headers().contains_key(UPGRADE)
        || request.headers().contains_key(MCP_PROTOCOL_VERSION)
        || request.headers().contains_key(MCP_SESSION_ID);
    let Some(owner) = owner.copied().filter(|_| !is_never) else {
        return match ours {
            // For every client: the backend does not know the id, and would begin again.
            Some(_) if !is_never => Err(Rejection::Gone),
            _ => Ok(KeptRequestOutcome::Forward(request, None)),
        };
    };
    let service = resume.service;
    let origin = resume.info.origin.clone();
    let digest = Arc::new(OnceLock::new());
    request
        .body_mut()
        .watch(Box::new(DigestTap::new(Arc::clone(&digest), service.kept().key_of(keep))));
    if request.body().is_end_stream() {
        request.body_mut().note_end();
    }
    let uri = request.uri();
    let this = KeptRequest {
        scope: Arc::clone(scope),
        owner: owner.tag,
        method: request.method().clone(),
        path: uri.path().into(),
        query: query::without(uri.query().unwrap_or_default(), &LAST_EVENT_ID_KEYS).into(),
        body: digest,
        origin: origin.clone(),
    };
    let candidates = match &last {
        // Without a named owner only for an id of ours, which has the id of the stream in it. An id of the backend can
        // be guessed, and many streams have it.
        Some(_) if owner.is_named || ours.is_some() => {
            // Boxed: keeps the future of other requests small.
            let elsewhere = Box::pin(made_elsewhere(service, keep, &this, ours.as_deref()));
            let mut candidates = service.kept().of_owner(&owner.tag);
            candidates.extend(elsewhere.await?);
            candidates
        }
        Some(_) | None => Vec::new(),
    };
    let might_be = candidates
        .iter()
        .any(|stream| stream.request.method == this.method && stream.request.path == this.path);
    let mut key = first_key(keep, &request, None);
    let mut body = None;
    if ours.is_some() || might_be || matches!(key, StreamName::InBody) {
        let read = read_body(request, service.kept(), (scope, keep.limits.total)).await;
        request = read.request;
        if matches!(key, StreamName::InBody) {
            key = first_key(keep, &request, Some(read.whole.as_deref()));
        }
        if ours.is_some() && read.whole.is_none() && this.body.get().is_none() {
            // It cannot be compared, and more was read of it than is kept, so that it cannot be forwarded.
            let why = if read.is_refused { Rejection::KeptMemory } else { Rejection::Gone };
            return Err(why);
        }
        body = Some(read.grant);
    }
    if let Some(id) = &last {
        let (mut again, mut others) = (None, Vec::new());
        for stream in candidates {
            if !stream.is_response_to(&this) {
                others.push(stream);
                continue;
            }
            // The first stream that has the id is the right one: the others are not copied.
            if let Some(stream) = service.readable((&stream, &position_of(&stream, id))).await? {
                again = continued(stream, id);
            }
            if again.is_some() {
                break;
            }
        }
        if let Some((stream, position)) = again {
            if is_foreign_again((&request, is_tls), &stream, &resume, &owner) {
                return Err(Rejection::ForeignOrigin);
            }
            let open = resume.open(stream, &position, ResumedBy::Request);
            return open.map(KeptRequestOutcome::Respond);
        }
        if let Some(id) = ours {
            let elsewhere = || others.into_iter().find(|stream| *stream.id == *id);
            let named = service.kept().get(&id).or_else(elsewhere);
            let named =
                named.filter(|it| it.request.owner.is(&owner.tag)).ok_or(Rejection::Gone)?;
            if named.may_be_response_to(&this) {
                return Err(Rejection::Gone);
            }
            // This is another request of the same client, which sends the id of the last event that it got: the backend
            // does not know it.
            request.headers_mut().remove(LAST_EVENT_ID);
        }
    }
    let key = match key {
        StreamName::Is(key) => Some(key),
        StreamName::None | StreamName::InBody | StreamName::InResponse => None,
    };
    let view = (&AuthRequest::new(&request), is_tls);
    let same_key = match keep.same_key {
        SameKey::Replace if is_foreign(view, resume.route, Some(&owner)) => SameKey::Parallel,
        same_key => same_key,
    };
    let begin = |key: &str| {
        let name = service.kept().name(keep, &this.owner, (&this.method, key));
        service.kept().begin((name, &this.path), same_key).ok_or(Rejection::SameKey)
    };
    let mut waiting = key.as_deref().map(begin).transpose()?;
    if let (Some(waiting), Some(store)) = (&mut waiting, service.kept().store(keep)) {
        // Boxed: keeps the future of other requests small.
        let claimed = Box::pin(service.kept().claim(store, waiting, same_key)).await;
        claimed.map_err(|_taken| Rejection::SameKey)?;
    }
    let keeping = Keeping {
        is_listed: keep.methods.contains(&this.method),
        request: this,
        owner,
        key,
        same_key,
        has_origin: origin.is_some(),
        waiting,
        revocable: resume.admission.revocable_again(),
        body,
    };
    Ok(KeptRequestOutcome::Forward(request, Some(Box::new(keeping))))
}

impl Keeping {
    /// Keeps the response to the request, if it can be kept.
    ///
    /// # Errors
    /// The client has the maximum number of streams, a stream of this name runs already, or the request was cancelled.
    pub(super) fn keep(
        self: Box<Self>,
        keep: &Arc<KeepSettings>,
        response: Response<UpstreamBody>,
        resume: KeptResume<'_>,
    ) -> Result<Kept, Rejection> {
        let (head, mut pump) = match self.start(keep, response, resume.service)? {
            KeptStart::Pump(head, pump) => (*head, pump),
            KeptStart::NotKept(response) => return Ok(Kept::Not(response)),
        };
        // Opened before events are dropped from the log: those that it has still to read are kept.
        let reader = KeptReader::new(pump.stream(), 0, None);
        let has_ended = pump.take_ready();
        let pumps = resume.service.pumps().clone();
        let body = resume.body(reader)?;
        if !has_ended {
            drop(pumps.spawn_local(pump.run()));
        }
        Ok(Kept::Stream(head.map(|()| body)))
    }

    /// Keeps the response to a request whose client has left, if it can be kept.
    pub(super) fn keep_unread(
        self: Box<Self>,
        keep: &Arc<KeepSettings>,
        response: Response<UpstreamBody>,
        service: &Service,
    ) {
        if let Ok(KeptStart::Pump(_, pump)) = self.start(keep, response, service) {
            drop(service.pumps().spawn_local(pump.run()));
        }
    }

    /// A token that is cancelled with the request while it waits for its response; `None`: nothing cancels it.
    pub(super) fn cancelled(&self) -> Option<CancellationToken> {
        self.waiting.as_ref().map(|waiting| waiting.cancelled().clone())
    }

    /// Whether its stream can be found other than by its address.
    pub(super) fn can_be_found(&self, keep: &KeepSettings) -> bool {
        self.key.is_some() && keep.resume_at.is_some()
    }

    /// Makes a stream of a response, if it can be kept.
    fn start(
        self: Box<Self>,
        keep: &Arc<KeepSettings>,
        mut response: Response<UpstreamBody>,
        service: &Service,
    ) -> Result<KeptStart, Rejection> {
        let metrics = service.metrics();
        if let Err(why) = self.is_to_keep(&response) {
            if is_event_stream(response.headers()) {
                metrics.kept_passed(why);
            }
            return Ok(KeptStart::NotKept(response));
        }
        let streams = service.kept();
        let key = response_key(keep, self.key, response.headers());
        let head = answer::kept_head(response.headers());
        // The backend has received it.
        drop(self.body);
        let new = (self.request, key, head);
        let settings = (keep, self.owner.is_named);
        let is_claimed = self.waiting.is_some();
        let stream = match streams.add(new, settings, (self.waiting, self.same_key)) {
            Ok(stream) => stream,
            // Dropping the request cancels it at the backend.
            Err(NotKept::SameName) => return Err(Rejection::SameKey),
            Err(NotKept::Cancelled) => return Err(Rejection::Cancelled),
            Err(full @ (NotKept::Owner | NotKept::Total)) => {
                let is_total = full == NotKept::Total;
                metrics.kept_passed(if is_total { "total" } else { "per_owner" });
                return Ok(KeptStart::NotKept(response));
            }
        };
        if let Some(store) = streams.store(keep) {
            let sender = KeptSender::new(Arc::clone(&stream), (store, streams), is_claimed);
            drop(service.pumps().spawn_local(sender.run()));
        }
        answer::make_kept(response.headers_mut(), &stream, self.has_origin);
        let (head, body) = response.into_parts();
        let cancelled = Arc::downgrade(&stream);
        let stopper = StreamStopper::of(move |_revoked| {
            if let Some(stream) = cancelled.upgrade() {
                stream.cancel(CancelReason::Revoked);
            }
        });
        let guard = service.guard_kept(self.revocable.as_ref(), stopper);
        let write_timeout = service.shard().write_timeout();
        let pump = Pump::new(body, (stream, streams), write_timeout, guard);
        Ok(KeptStart::Pump(Box::new(Response::from_parts(head, ())), pump))
    }

    /// Returns an error if the response is not to be kept: the reason.
    fn is_to_keep(&self, response: &Response<UpstreamBody>) -> Result<(), &'static str> {
        let headers = response.headers();
        let says = |word: &str| {
            headers
                .get(SSEGATE_KEEP)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()))
        };
        let varies = headers.get_all(VARY).iter().any(|value| {
            value.as_bytes().split(|&byte| byte == b',').any(|name| name.trim_ascii() == b"*")
        });
        if response.status() != StatusCode::OK || !is_event_stream(headers) {
            Err("status")
        } else if headers.contains_key(MCP_SESSION_ID) {
            Err("mcp")
        } else if says("no") || !(self.is_listed || says("yes")) {
            Err("not_wanted")
        } else if backend_stream::is_encoded(headers) {
            Err("encoded")
        } else if varies {
            Err("vary")
        } else {
            Ok(())
        }
    }
}

/// The result for a response.
enum KeptStart {
    /// A stream, whose pump does not run yet.
    Pump(Box<Response<()>>, Pump),
    NotKept(Response<UpstreamBody>),
}

/// A response that may be kept.
pub(super) enum Kept {
    /// It is kept, and has a reader.
    Stream(Response<ResponseBody>),
    /// It is relayed like any other.
    Not(Response<UpstreamBody>),
}
