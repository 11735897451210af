//! Asks auth backends, over the connections of a shard.
//!
//! A question is sent by a task of its own, so that it is answered for all who wait for it, whatever becomes
//! of the client that asked first. A backend that does not respond is "not now", after the timeout.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, timeout};

use crate::auth::laravel::ChannelKind;
use crate::auth::{
    AskBackend, AuthPreset, AuthRequest, AuthResponse, CacheKey, ForwardAuth, Lookup,
    MethodSettings, Verdict, VerdictCache, laravel, question, subject,
};
use crate::grip;
use crate::log_limit::LogLimit;
use crate::proxy::{ForwardContext, Forwarded, Proxy};
use crate::route::{ProxySettings, ReservedHeaders};
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;

/// The largest body of a response that is passed on to a client, in bytes.
const MAX_BODY: usize = 64 << 10;

/// The auth backends of a route, each with the connections of this shard.
#[derive(Clone, Debug, Default)]
pub(super) struct AuthBackends(Vec<(Arc<ForwardAuth>, Proxy)>, Rc<LogLimit>);

/// One request that may be asked about.
pub(super) struct RequestAsker<'a> {
    pub(super) backends: &'a AuthBackends,
    pub(super) verdicts: &'a VerdictCache,
    pub(super) connection: &'a Rc<ConnectionState>,
    /// The target of the request without tokens.
    pub(super) target: &'a Uri,
    /// The names of the channels that it asks for, as clients write them; `None` if that is not known.
    pub(super) channels: Option<&'a [String]>,
}

/// A question that may be asked again: whether a request is allowed.
#[derive(Clone)]
pub(super) struct AuthQuestion {
    backend: Arc<ForwardAuth>,
    proxy: Proxy,
    // The path and query that the backend is asked at.
    target: String,
    fields: HeaderMap,
    subject: [(HeaderName, HeaderValue); 4],
    // The host that the client asked for.
    host: String,
    connection: Rc<ConnectionState>,
    verdicts: VerdictCache,
    key: CacheKey,
    warnings: Rc<LogLimit>,
    // What the backend said of the client when it was let in; `None`: it is asked for each channel.
    established: Option<Rc<BTreeMap<String, String>>>,
}

impl AuthBackends {
    /// The backends of `methods`. `connect` returns the connections to one.
    pub(super) fn new(
        methods: &[&MethodSettings],
        connect: impl Fn(&ProxySettings) -> Proxy,
    ) -> Self {
        let backends = methods.iter().filter_map(|method| match method {
            MethodSettings::Forward(backend) => {
                Some((Arc::clone(backend), connect(&proxy_settings(backend))))
            }
            _ => None,
        });
        Self(backends.collect(), Rc::default())
    }

    /// Whether one of them decides for each channel of a request.
    pub(super) fn ask_by_channel(&self) -> bool {
        self.0.iter().any(|(backend, _)| backend.preset == AuthPreset::Laravel)
    }

    /// The connections, to be kept by a reload.
    pub(super) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.0.iter().map(|(_, proxy)| proxy)
    }
}

fn proxy_settings(backend: &ForwardAuth) -> ProxySettings {
    ProxySettings {
        tls: backend.tls.clone(),
        connect_timeout: backend.timeout,
        response_timeout: backend.timeout,
        idle_timeout: backend.timeout,
        ..ProxySettings::new(vec![backend.upstream.clone()])
    }
}

impl RequestAsker<'_> {
    /// The questions whether `backend` allows `request`: all must be answered with yes.
    ///
    /// # Errors
    /// It is refused without a question.
    pub(super) fn questions(
        &self,
        backend: &Arc<ForwardAuth>,
        request: AuthRequest<'_>,
    ) -> Result<Vec<AuthQuestion>, Verdict> {
        let asked = |target: String| self.question(backend, request, target);
        if backend.preset == AuthPreset::Status {
            return Ok(vec![asked(backend.target.clone())?]);
        }
        let channels = self.channels.ok_or_else(not_allowed)?;
        let mut questions = Vec::new();
        for name in channels {
            match laravel::kind_of(name) {
                ChannelKind::Public => {}
                ChannelKind::Private => {
                    questions.push(asked(laravel::target(&backend.target, name))?)
                }
                ChannelKind::Prefixed => return Err(not_allowed()),
            }
        }
        Ok(questions)
    }

    fn question(
        &self,
        backend: &Arc<ForwardAuth>,
        request: AuthRequest<'_>,
        target: String,
    ) -> Result<AuthQuestion, Verdict> {
        let found = self.backends.0.iter().find(|(known, _)| known == backend);
        let (backend, proxy) = found.ok_or(Verdict::NotNow("the configuration has changed"))?;
        let fields = question(request, self.connection.is_trusted_proxy());
        let subject = subject(request, self.target).ok_or_else(not_allowed)?;
        // The name in a certificate goes with the Host; an application in clear text beside the gateway knows
        // its site by the client's.
        let host = match backend.upstream.is_tls() {
            true => backend.upstream.authority(),
            false => request.host().to_owned(),
        };
        let upstream = backend.upstream.to_string();
        let scheme = [u8::from(self.connection.is_tls())];
        let asked: [&[u8]; 5] = [
            upstream.as_bytes(),
            target.as_bytes(),
            host.as_bytes(),
            self.connection.client_text().as_bytes(),
            &scheme,
        ];
        let all = fields.iter().chain(subject.iter().map(|(name, value)| (name, value)));
        let all = all.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        // A verdict has the fields that were to be copied when it was asked for.
        let copied = backend.copy_headers.iter().map(|name| name.as_str().as_bytes());
        let key = self.verdicts.key(asked.into_iter().chain(all).chain(copied));
        Ok(AuthQuestion {
            backend: Arc::clone(backend),
            proxy: proxy.clone(),
            target,
            fields,
            subject,
            host,
            warnings: Rc::clone(&self.backends.1),
            established: None,
            connection: Rc::clone(self.connection),
            verdicts: self.verdicts.clone(),
            key,
        })
    }
}

impl AskBackend for RequestAsker<'_> {
    async fn ask(&self, backend: &Arc<ForwardAuth>, request: AuthRequest<'_>) -> Verdict {
        let questions = match self.questions(backend, request) {
            Ok(questions) => questions,
            Err(verdict) => return verdict,
        };
        let mut all = HeaderMap::new();
        for question in questions {
            match question.ask().await {
                Verdict::Allowed(fields) => all.extend(HeaderMap::clone(&fields)),
                other => return other,
            }
        }
        Verdict::Allowed(Arc::new(all))
    }
}

impl AuthQuestion {
    /// The settings of the backend.
    pub(super) fn backend(&self) -> &ForwardAuth {
        &self.backend
    }

    /// The question of a stream that was opened for a client with these attributes.
    pub(super) fn of_stream(mut self, attributes: &Rc<BTreeMap<String, String>>) -> Self {
        let is_whole = self.backend.preset == AuthPreset::Status;
        self.established = is_whole.then(|| Rc::clone(attributes));
        self
    }

    /// Whether `fields` of a permission say the same of the client as when it was let in: another login in the
    /// same session is another client.
    pub(super) fn is_same_client(&self, fields: &HeaderMap) -> bool {
        self.established.as_ref().is_none_or(|established| {
            self.backend.copy_headers.iter().all(|name| {
                let value = fields.get(name).map(HeaderValue::as_bytes);
                value == established.get(name.as_str()).map(String::as_bytes)
            })
        })
    }

    /// Asks, unless the verdict is known, or somebody asks the same already.
    pub(super) async fn ask(&self) -> Verdict {
        match self.verdicts.look_up(self.key, Instant::now()) {
            Lookup::Known(verdict) => verdict,
            lookup => self.wait(lookup).await,
        }
    }

    /// Asks, unless somebody asks the same already: what is known may be what has changed.
    pub(super) async fn ask_again(&self) -> Verdict {
        self.wait(self.verdicts.ask(self.key)).await
    }

    async fn wait(&self, lookup: Lookup) -> Verdict {
        let mut verdict = match lookup {
            Lookup::Known(verdict) => return verdict,
            Lookup::Asking(verdict) => verdict,
            Lookup::Ask(question) => {
                let (verdict, this) = (question.verdict(), self.clone());
                drop(tokio::task::spawn_local(async move {
                    let verdict = this.send().await;
                    question.answer(verdict, this.backend.cache, Instant::now());
                }));
                verdict
            }
        };
        // Fails if the shard that asked has stopped.
        let told = verdict.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        told.unwrap_or(Verdict::NotNow("the gateway is shutting down"))
    }

    async fn send(&self) -> Verdict {
        let request = Request::builder().method(Method::GET).uri(&*self.target);
        let Ok(mut request) = request.body(RequestBody::empty()) else {
            return Verdict::NotNow("the auth backend's URL is not valid");
        };
        request.headers_mut().clone_from(&self.fields);
        if let Ok(host) = HeaderValue::from_str(&self.host) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let reserved = ReservedHeaders::default();
        let context =
            ForwardContext { fields: &self.subject, reserved: &reserved, expires_at: None };
        let answered = timeout(self.backend.timeout, async {
            match self.proxy.forward(request, &self.connection, context).await {
                Ok(Forwarded::Response(response)) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, MAX_BODY).collect().await;
                    Some((head, body.ok().map(|body| body.to_bytes())))
                }
                Ok(Forwarded::Tunnel(..)) => None,
                Err(error) => {
                    self.warn(error.kind(), &error);
                    None
                }
            }
        });
        match answered.await {
            Ok(Some((head, body))) => self.verdict(Response::from_parts(head, body)),
            Ok(None) => Verdict::NotNow("the auth backend cannot be reached"),
            Err(_elapsed) => {
                self.warn("timeout", &"no response in time");
                Verdict::NotNow("the auth backend does not respond")
            }
        }
    }

    /// Logs why there is no verdict: nobody is let in for it, and an operator has to know.
    fn warn(&self, kind: &'static str, why: &dyn fmt::Display) {
        if let Some(held_back) = self.warnings.pass(kind, Instant::now()) {
            let (backend, target) = (&self.backend.upstream, &self.backend.target);
            tracing::warn!(
                %backend, target, error = %why, held_back,
                "the auth backend has not decided; clients are told to retry"
            );
        }
    }

    /// What a response means.
    fn verdict(&self, response: Response<Option<Bytes>>) -> Verdict {
        let (mut head, body) = response.into_parts();
        let status = head.status;
        let is_laravel = self.backend.preset == AuthPreset::Laravel;
        if status.is_success() && is_laravel && !body.as_deref().is_some_and(laravel::is_permission)
        {
            return not_allowed();
        }
        if status.is_success() {
            let mut fields = HeaderMap::new();
            for name in &self.backend.copy_headers {
                if let Some(value) = head.headers.get(name) {
                    fields.insert(name, value.clone());
                }
            }
            return Verdict::Allowed(Arc::new(fields));
        }
        let is_refusal = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            || (status.is_redirection() && head.headers.contains_key(http::header::LOCATION));
        // One with a body that is too large to keep is passed on without it.
        let body = is_refusal.then(|| body.unwrap_or_default());
        let Some(body) = body else {
            self.warn("status", &status);
            return Verdict::NotNow("the auth backend has not decided");
        };
        grip::strip(&mut head.headers);
        // The response may go to several who asked the same, and to no cache.
        for name in [SET_COOKIE, CONTENT_LENGTH] {
            head.headers.remove(name);
        }
        head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Verdict::Refused(Arc::new(AuthResponse { status, headers: head.headers, body }))
    }
}

fn not_allowed() -> Verdict {
    let body = Bytes::from_static(b"403 Forbidden: not allowed\n");
    let (status, headers) = (StatusCode::FORBIDDEN, HeaderMap::new());
    Verdict::Refused(Arc::new(AuthResponse { status, headers, body }))
}

// Without the credentials that it carries.
impl fmt::Debug for AuthQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthQuestion").field("backend", &self.backend).finish_non_exhaustive()
    }
}
