//! Asks auth backends, over the connections of a shard.
//!
//! A question is sent by a task of its own, so that it is answered for all who wait for it, whatever becomes
//! of the client that asked first. A backend that does not respond is "not now", after the timeout.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, timeout};

use crate::auth::{
    AskBackend, AuthPreset, AuthRequest, AuthResponse, CacheKey, ForwardAuth, Lookup,
    MethodSettings, Verdict, VerdictCache, laravel, question,
};
use crate::grip;
use crate::proxy::{Forwarded, Proxy};
use crate::route::ProxySettings;
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;

/// The largest body of a response that is passed on to a client, in bytes.
const MAX_BODY: usize = 64 << 10;

/// The auth backends of a route, each with the connections of this shard.
#[derive(Clone, Debug, Default)]
pub(super) struct AuthBackends(Vec<(Arc<ForwardAuth>, Proxy)>);

/// One request that may be asked about.
pub(super) struct RequestAsker<'a> {
    pub(super) backends: &'a AuthBackends,
    pub(super) verdicts: &'a VerdictCache,
    pub(super) connection: &'a Rc<ConnectionState>,
    /// The target of the request without tokens.
    pub(super) target: &'a Uri,
    /// The names of the channels that it asks for, as clients write them; empty on a proxy route.
    pub(super) channels: &'a [String],
}

/// A question that may be asked again: whether a request is allowed.
#[derive(Clone)]
pub(super) struct AuthQuestion {
    backend: Arc<ForwardAuth>,
    proxy: Proxy,
    // The path and query that the backend is asked at.
    target: String,
    fields: HeaderMap,
    // The host that the client asked for.
    host: String,
    connection: Rc<ConnectionState>,
    verdicts: VerdictCache,
    key: CacheKey,
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
        Self(backends.collect())
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
    pub(super) fn questions(
        &self,
        backend: &Arc<ForwardAuth>,
        request: AuthRequest<'_>,
    ) -> Vec<AuthQuestion> {
        let asked = |target: String| self.question(backend, request, target);
        match backend.preset {
            AuthPreset::Status => asked(backend.target.clone()).into_iter().collect(),
            AuthPreset::Laravel => {
                let private = self.channels.iter().filter(|name| laravel::needs_permission(name));
                private.filter_map(|name| asked(laravel::target(&backend.target, name))).collect()
            }
        }
    }

    fn question(
        &self,
        backend: &Arc<ForwardAuth>,
        request: AuthRequest<'_>,
        target: String,
    ) -> Option<AuthQuestion> {
        let (backend, proxy) = self.backends.0.iter().find(|(known, _)| known == backend)?;
        let fields = question(request, self.target);
        let host = request.host().to_owned();
        let upstream = backend.upstream.to_string();
        let scheme = [u8::from(self.connection.is_tls())];
        let asked: [&[u8]; 5] = [
            upstream.as_bytes(),
            target.as_bytes(),
            host.as_bytes(),
            self.connection.client_text().as_bytes(),
            &scheme,
        ];
        let fields_of =
            fields.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        let key = self.verdicts.key(asked.into_iter().chain(fields_of));
        Some(AuthQuestion {
            backend: Arc::clone(backend),
            proxy: proxy.clone(),
            target,
            fields,
            host,
            connection: Rc::clone(self.connection),
            verdicts: self.verdicts.clone(),
            key,
        })
    }
}

impl AskBackend for RequestAsker<'_> {
    async fn ask(&self, backend: &Arc<ForwardAuth>, request: AuthRequest<'_>) -> Verdict {
        let mut all = HeaderMap::new();
        for question in self.questions(backend, request) {
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

    /// Asks, unless the verdict is known, or somebody asks the same already.
    pub(super) async fn ask(&self) -> Verdict {
        let mut verdict = match self.verdicts.look_up(self.key, Instant::now()) {
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
        if let Ok(host) = HeaderValue::from_str(&self.host) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let fields: Vec<_> =
            self.fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let answered = timeout(self.backend.timeout, async {
            match self.proxy.forward(request, &self.connection, &fields).await {
                Ok(Forwarded::Response(response)) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, MAX_BODY).collect().await;
                    Some((head, body.ok().map(|body| body.to_bytes())))
                }
                // It has been logged and counted.
                Ok(Forwarded::Tunnel(..)) | Err(_) => None,
            }
        });
        match answered.await {
            Ok(Some((head, body))) => self.verdict(Response::from_parts(head, body)),
            Ok(None) => Verdict::NotNow("the auth backend cannot be reached"),
            Err(_elapsed) => Verdict::NotNow("the auth backend does not respond"),
        }
    }

    /// What a response means.
    fn verdict(&self, response: Response<Option<Bytes>>) -> Verdict {
        let (mut head, body) = response.into_parts();
        let status = head.status;
        let is_laravel = self.backend.preset == AuthPreset::Laravel;
        if status.is_success() && is_laravel && !body.as_deref().is_some_and(laravel::is_permission)
        {
            let body = Bytes::from_static(b"403 Forbidden: not allowed\n");
            let (status, headers) = (StatusCode::FORBIDDEN, HeaderMap::new());
            return Verdict::Refused(Arc::new(AuthResponse { status, headers, body }));
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
        let Some(body) = body.filter(|_| is_refusal) else {
            tracing::debug!(backend = %self.backend.upstream, %status, "no verdict of the auth backend");
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

// Without the credentials that it carries.
impl fmt::Debug for AuthQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthQuestion").field("backend", &self.backend).finish_non_exhaustive()
    }
}
