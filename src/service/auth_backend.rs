//! One auth backend: the connections of a shard to it, and what its responses mean.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use crate::auth::{
    AuthPreset, AuthRequest, AuthResponse, ForwardAuth, QuestionBuffer, Verdict, VerdictCache,
    laravel,
};
use crate::grip;
use crate::log_limit::LogLimit;
use crate::proxy::Proxy;
use crate::route::ProxySettings;

/// An auth backend.
#[derive(Debug)]
pub(super) struct KnownBackend {
    pub(super) settings: Arc<ForwardAuth>,
    pub(super) proxy: Proxy,
    /// Identifies the settings on which its verdicts depend.
    pub(super) name: String,
    /// Its recent verdicts.
    pub(super) verdicts: VerdictCache,
    /// The buffer in which its questions are written.
    pub(super) buffer: RefCell<QuestionBuffer>,
    warnings: Rc<LogLimit>,
}

impl KnownBackend {
    /// The backend with these settings, whose verdicts are in `verdicts`. `connect` returns the connections to it.
    pub(super) fn new(
        (settings, verdicts): (&Arc<ForwardAuth>, &VerdictCache),
        connect: impl Fn(&ProxySettings) -> Proxy,
        warnings: &Rc<LogLimit>,
    ) -> Self {
        Self {
            settings: Arc::clone(settings),
            proxy: connect(&proxy_settings(settings)),
            name: name(settings),
            verdicts: verdicts.clone(),
            buffer: RefCell::default(),
            warnings: Rc::clone(warnings),
        }
    }

    /// The host that the backend is sent. With TLS it matches the name in the certificate; an application in clear
    /// text beside the gateway knows its site by the client's host.
    pub(super) fn host<'a>(&'a self, request: AuthRequest<'a>) -> Cow<'a, str> {
        match self.settings.upstream.is_tls() {
            true => self.settings.upstream.authority().into(),
            false => request.host().into(),
        }
    }

    /// Logs why there is no verdict: the request is not admitted, and an operator has to know.
    pub(super) fn warn(&self, kind: &'static str, why: &dyn fmt::Display) {
        if let Some(held_back) = self.warnings.pass(kind, Instant::now()) {
            let ForwardAuth { upstream: backend, target, .. } = &*self.settings;
            tracing::warn!(
                %backend, target, error = %why, held_back,
                "the auth backend has not decided; clients are told to retry"
            );
        }
    }

    /// Returns the verdict in a response.
    pub(super) fn verdict(&self, response: Response<Option<Bytes>>) -> Verdict {
        let (mut head, body) = response.into_parts();
        let status = head.status;
        let is_laravel = self.settings.preset == AuthPreset::Laravel;
        if status.is_success() && is_laravel && !body.as_deref().is_some_and(laravel::is_permission)
        {
            return not_allowed();
        }
        if status.is_success() {
            let mut fields = HeaderMap::new();
            for name in &self.settings.copy_headers {
                // Copied: the response's own memory is a part of the connection's read buffer.
                let value = head.headers.get(name).map(HeaderValue::as_bytes);
                if let Some(Ok(value)) = value.map(HeaderValue::from_bytes) {
                    fields.insert(name, value);
                }
            }
            return Verdict::Allowed(Arc::new(fields));
        }
        let is_refusal = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            || (status.is_redirection() && head.headers.contains_key(http::header::LOCATION));
        // A refusal whose body is too large to keep is passed on without it.
        let body = is_refusal.then(|| body.unwrap_or_default());
        let Some(body) = body else {
            self.warn("status", &status);
            return Verdict::NotNow("the auth backend has not decided");
        };
        grip::strip(&mut head.headers);
        // The response may go to several clients with the same question, and to no cache.
        for name in [SET_COOKIE, CONTENT_LENGTH] {
            head.headers.remove(name);
        }
        head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Verdict::Refused(Arc::new(AuthResponse { status, headers: head.headers, body }))
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

/// Two backends with the same name are sent the same questions at the same address, and the same fields of their
/// responses are kept.
fn name(ForwardAuth { upstream, copy_headers, .. }: &ForwardAuth) -> String {
    // A verdict has the fields that were to be copied when the question was sent.
    let copied: Vec<_> = copy_headers.iter().map(HeaderName::as_str).collect();
    format!("{upstream} {}", copied.join(" "))
}

/// A refusal of our own.
pub(super) fn not_allowed() -> Verdict {
    let body = Bytes::from_static(b"403 Forbidden: not allowed\n");
    let (status, headers) = (StatusCode::FORBIDDEN, HeaderMap::new());
    Verdict::Refused(Arc::new(AuthResponse { status, headers, body }))
}
