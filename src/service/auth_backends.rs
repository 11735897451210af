//! Asks auth backends, over the connections of a shard.
//!
//! A question is sent by a task of its own, so that it is answered for all who wait for it, whatever becomes
//! of the client that asked first. A backend that does not respond is "not now", after the timeout.

use std::borrow::Cow;
use std::cell::RefCell;
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
    MethodSettings, QuestionSite, QuestionText, Verdict, VerdictCache, laravel,
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
pub(super) struct AuthBackends(Vec<Rc<KnownBackend>>);

/// An auth backend.
#[derive(Debug)]
struct KnownBackend {
    settings: Arc<ForwardAuth>,
    proxy: Proxy,
    // What of the settings tells its verdicts from those of others.
    name: String,
    warnings: Rc<LogLimit>,
}

/// One request that may be asked about.
pub(super) struct RequestAsker<'a> {
    backends: &'a AuthBackends,
    verdicts: &'a VerdictCache,
    connection: &'a Rc<ConnectionState>,
    // The target of the request without tokens.
    target: &'a Uri,
    // The names of the channels that it asks for, as clients write them; `None` if that is not known.
    channels: Option<&'a [String]>,
    // What was asked, and has to be asked again while a stream is open.
    asked: RefCell<Vec<Rc<AuthQuestion>>>,
}

/// A question that may be asked again: whether a request is allowed.
// One for each open stream: small.
#[derive(Clone)]
pub(super) struct AuthQuestion {
    backend: Rc<KnownBackend>,
    text: QuestionText,
    key: CacheKey,
    connection: Rc<ConnectionState>,
    verdicts: VerdictCache,
    // What the backend said of the client when it was let in; `None`: it is asked for each channel.
    established: Option<Arc<HeaderMap>>,
}

impl AuthBackends {
    /// The backends of `methods`. `connect` returns the connections to one.
    pub(super) fn new(
        methods: &[&MethodSettings],
        connect: impl Fn(&ProxySettings) -> Proxy,
    ) -> Self {
        let warnings = Rc::<LogLimit>::default();
        let backends = methods.iter().filter_map(|method| match method {
            MethodSettings::Forward(backend) => Some(Rc::new(KnownBackend {
                settings: Arc::clone(backend),
                proxy: connect(&proxy_settings(backend)),
                name: name(backend),
                warnings: Rc::clone(&warnings),
            })),
            _ => None,
        });
        Self(backends.collect())
    }

    /// Whether one of them decides for each channel of a request.
    pub(super) fn ask_by_channel(&self) -> bool {
        self.0.iter().any(|known| known.settings.preset == AuthPreset::Laravel)
    }

    /// The connections, to be kept by a reload.
    pub(super) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.0.iter().map(|known| &known.proxy)
    }

    fn find(&self, backend: &Arc<ForwardAuth>) -> Result<&Rc<KnownBackend>, Verdict> {
        let found = self.0.iter().find(|known| known.settings == *backend);
        found.ok_or(Verdict::NotNow("the configuration has changed"))
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

/// Two backends with one name are asked the same at the same place, and the same is kept of their responses.
fn name(ForwardAuth { upstream, copy_headers, .. }: &ForwardAuth) -> String {
    // A verdict has the fields that were to be copied when it was asked for.
    let copied: Vec<_> = copy_headers.iter().map(HeaderName::as_str).collect();
    format!("{upstream} {}", copied.join(" "))
}

impl KnownBackend {
    /// The host that the backend is told. The name in a certificate goes with it; an application in clear text
    /// beside the gateway knows its site by the client's.
    fn host<'a>(&self, request: AuthRequest<'a>) -> Cow<'a, str> {
        match self.settings.upstream.is_tls() {
            true => self.settings.upstream.authority().into(),
            false => request.host().into(),
        }
    }
}

impl<'a> RequestAsker<'a> {
    /// Asks about a request for `target`, without tokens, which arrived over `connection`. `channels`: the names
    /// that it asks for, as clients write them; `None` if they are not known.
    pub(super) fn new(
        (backends, verdicts): (&'a AuthBackends, &'a VerdictCache),
        connection: &'a Rc<ConnectionState>,
        target: &'a Uri,
        channels: Option<&'a [String]>,
    ) -> Self {
        let asked = RefCell::default();
        Self { backends, verdicts, connection, target, channels, asked }
    }

    /// What has to be asked again while a stream is open that `backends` have allowed.
    pub(super) fn rechecks(self, backends: &[Arc<ForwardAuth>]) -> Vec<Rc<AuthQuestion>> {
        let mut asked = self.asked.into_inner();
        let has_allowed =
            |question: &Rc<AuthQuestion>| backends.contains(&question.backend.settings);
        asked.retain(has_allowed);
        asked
    }

    /// The questions whether `backend` allows `request`: all must be answered with yes.
    ///
    /// # Errors
    /// It is refused without a question.
    fn questions(
        &self,
        backend: &Arc<ForwardAuth>,
        request: AuthRequest<'_>,
    ) -> Result<Vec<AuthQuestion>, Verdict> {
        let known = self.backends.find(backend)?;
        let asked = |target: &str| self.question(known, request, target);
        if backend.preset == AuthPreset::Status {
            return Ok(vec![asked(&backend.target)]);
        }
        let channels = self.channels.ok_or_else(not_allowed)?;
        let mut questions = Vec::new();
        for name in channels {
            match laravel::kind_of(name) {
                ChannelKind::Public => {}
                ChannelKind::Private => {
                    questions.push(asked(&laravel::target(&backend.target, name)));
                }
                ChannelKind::Prefixed => return Err(not_allowed()),
            }
        }
        Ok(questions)
    }

    fn question(
        &self,
        known: &Rc<KnownBackend>,
        request: AuthRequest<'_>,
        target: &str,
    ) -> AuthQuestion {
        let site = QuestionSite {
            backend: &known.name,
            target,
            host: &known.host(request),
            client: self.connection.client_text(),
            is_tls: self.connection.is_tls(),
            is_from_proxy: self.connection.is_trusted_proxy(),
        };
        let text = QuestionText::new(site, request, self.target);
        AuthQuestion {
            backend: Rc::clone(known),
            key: self.verdicts.key(text.as_bytes()),
            text,
            connection: Rc::clone(self.connection),
            verdicts: self.verdicts.clone(),
            established: None,
        }
    }

    /// Keeps a question whose stream is allowed by a backend that said `fields`.
    fn keep(&self, mut question: AuthQuestion, fields: &Arc<HeaderMap>) {
        let backend = &question.backend.settings;
        let mut asked = self.asked.borrow_mut();
        // The request may be verified again, where something was revoked meanwhile.
        let is_kept = asked.iter().any(|kept| kept.key == question.key);
        if backend.recheck.is_some() && !is_kept {
            let is_whole = backend.preset == AuthPreset::Status;
            question.established = is_whole.then(|| Arc::clone(fields));
            asked.push(Rc::new(question));
        }
    }
}

impl AskBackend for RequestAsker<'_> {
    async fn ask(&self, backend: &Arc<ForwardAuth>, request: AuthRequest<'_>) -> Verdict {
        let questions = match self.questions(backend, request) {
            Ok(questions) => questions,
            Err(verdict) => return verdict,
        };
        let mut all = Arc::<HeaderMap>::default();
        for question in questions {
            match question.ask().await {
                Verdict::Allowed(fields) => {
                    self.keep(question, &fields);
                    match all.is_empty() {
                        true => all = fields,
                        false => Arc::make_mut(&mut all).extend(HeaderMap::clone(&fields)),
                    }
                }
                other => return other,
            }
        }
        Verdict::Allowed(all)
    }
}

impl AuthQuestion {
    /// The settings of the backend.
    pub(super) fn backend(&self) -> &ForwardAuth {
        &self.backend.settings
    }

    /// Whether `fields` of a permission say the same of the client as when it was let in: another login in the
    /// same session is another client.
    pub(super) fn is_same_client(&self, fields: &HeaderMap) -> bool {
        self.established.as_ref().is_none_or(|established| {
            let mut names = self.backend().copy_headers.iter();
            names.all(|name| fields.get(name) == established.get(name))
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
                    question.answer(verdict, this.backend().cache, Instant::now());
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
        if let Some(held_back) = self.backend.warnings.pass(kind, Instant::now()) {
            let ForwardAuth { upstream: backend, target, .. } = self.backend();
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
        let is_laravel = self.backend().preset == AuthPreset::Laravel;
        if status.is_success() && is_laravel && !body.as_deref().is_some_and(laravel::is_permission)
        {
            return not_allowed();
        }
        if status.is_success() {
            let mut fields = HeaderMap::new();
            for name in &self.backend().copy_headers {
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
        f.debug_struct("AuthQuestion").field("backend", self.backend()).finish_non_exhaustive()
    }
}
