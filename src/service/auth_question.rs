//! A question to an auth backend, which may be asked again.
//!
//! A task of its own sends it, so that all who wait for it get the verdict, even if the client that asked first
//! leaves. A backend that does not respond counts as "not now", after the timeout.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use ssegate_hub::StreamKey;
use tokio::time::{Instant, timeout};

use super::auth_backend::{KnownBackend, not_allowed};
use crate::auth::{AuthPreset, CacheKey, ForwardAuth, Lookup, QuestionText, Verdict};
use crate::proxy::{ForwardContext, Forwarded};
use crate::route::ReservedHeaders;
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;

/// The largest body of a response that is passed on to a client, in bytes.
const MAX_BODY: usize = 64 << 10;

/// A question that may be asked again: whether a request is allowed.
// One for each open stream: small.
pub(super) struct AuthQuestion {
    backend: Rc<KnownBackend>,
    text: QuestionText,
    key: CacheKey,
    connection: Rc<ConnectionState>,
    // The fields with which the backend has described the client when it was admitted. Unset if the question is
    // for a channel, or before the first verdict.
    established: OnceCell<Arc<HeaderMap>>,
    /// When the last verdict came; before the first, when the request arrived.
    pub(super) decided: Cell<Instant>,
    /// Its key among the questions that are asked again.
    pub(super) place: Cell<Option<StreamKey>>,
}

impl AuthQuestion {
    /// Creates the question `text` with this key, about a request that arrived over `connection` at `received_at`.
    pub(super) fn new(
        backend: &Rc<KnownBackend>,
        (text, key): (QuestionText, CacheKey),
        (connection, received_at): (&Rc<ConnectionState>, Instant),
    ) -> Self {
        Self {
            backend: Rc::clone(backend),
            text,
            key,
            connection: Rc::clone(connection),
            established: OnceCell::new(),
            decided: Cell::new(received_at),
            place: Cell::new(None),
        }
    }

    /// The name of the question.
    pub(super) fn key(&self) -> CacheKey {
        self.key
    }

    /// Stores the fields with which the backend has described the client that it admitted. Only the first call
    /// counts.
    pub(super) fn establish(&self, fields: &Arc<HeaderMap>) {
        // For a channel the fields say what others in the channel may know of the client, not its identity.
        if self.backend().preset == AuthPreset::Status {
            self.established.get_or_init(|| Arc::clone(fields));
        }
    }

    /// The settings of the backend.
    pub(super) fn backend(&self) -> &Arc<ForwardAuth> {
        &self.backend.settings
    }

    /// Whether the `fields` of a permission describe the same client as when it was admitted. Another login in the
    /// same session is another client.
    pub(super) fn is_same_client(&self, fields: &HeaderMap) -> bool {
        self.established.get().is_none_or(|established| {
            let mut names = self.backend().copy_headers.iter();
            names.all(|name| fields.get(name) == established.get(name))
        })
    }

    /// Returns the verdict, from the cache if it is known. Joins a request with the same question that is in
    /// flight.
    pub(super) async fn ask(self: &Rc<Self>) -> Verdict {
        match self.backend.verdicts.look_up(self.key, Instant::now()) {
            Lookup::Known(verdict) => verdict,
            lookup => self.wait(lookup).await,
        }
    }

    /// Asks the backend without the cache, which may be outdated. Joins a request with the same question that is
    /// in flight.
    pub(super) async fn ask_again(self: &Rc<Self>) -> Verdict {
        self.wait(self.backend.verdicts.ask(self.key)).await
    }

    async fn wait(self: &Rc<Self>, lookup: Lookup) -> Verdict {
        let mut verdict = match lookup {
            Lookup::Known(verdict) => return verdict,
            Lookup::Asking(verdict) => verdict,
            Lookup::Ask(question) => {
                let (verdict, this) = (question.verdict(), Rc::clone(self));
                drop(tokio::task::spawn_local(async move {
                    let verdict = this.send().await;
                    let keep = this.backend().cache;
                    question.answer(verdict, &this.text, keep, Instant::now());
                }));
                verdict
            }
        };
        // Fails if the shard that asked has stopped.
        let told = verdict.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        told.unwrap_or(Verdict::NotNow("the gateway is shutting down"))
    }

    async fn send(&self) -> Verdict {
        let request = Request::builder().method(Method::GET).uri(self.text.target());
        let Ok(mut request) = request.body(RequestBody::empty()) else {
            return Verdict::NotNow("the auth backend's URL is not valid");
        };
        let Some(subject) = self.text.subject() else { return not_allowed() };
        *request.headers_mut() = self.text.fields();
        if let Ok(host) = HeaderValue::from_str(self.text.host()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let reserved = ReservedHeaders::default();
        let context = ForwardContext { fields: &subject, reserved: &reserved, expires_at: None };
        let answered = timeout(self.backend().timeout, async {
            match self.backend.proxy.forward(request, &self.connection, context).await {
                Ok(Forwarded::Response(response)) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, MAX_BODY).collect().await;
                    Some((head, body.ok().map(|body| body.to_bytes())))
                }
                Ok(Forwarded::Tunnel(..)) => None,
                Err(error) => {
                    self.backend.warn(error.kind(), &error);
                    None
                }
            }
        });
        match answered.await {
            Ok(Some((head, body))) => self.backend.verdict(Response::from_parts(head, body)),
            Ok(None) => Verdict::NotNow("the auth backend cannot be reached"),
            Err(_elapsed) => {
                self.backend.warn("timeout", &"no response in time");
                Verdict::NotNow("the auth backend does not respond")
            }
        }
    }
}

// Without the credentials in it.
impl fmt::Debug for AuthQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthQuestion").field("backend", self.backend()).finish_non_exhaustive()
    }
}
