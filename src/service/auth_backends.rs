//! The auth backends of a route, and the questions that they are sent about a request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Uri};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::auth_backend::{KnownBackend, not_allowed};
use super::auth_question::AuthQuestion;
use crate::auth::laravel::ChannelKind;
use crate::auth::{
    AskBackend, AuthPreset, AuthRequest, CacheKey, ForwardAuth, MethodSettings, QuestionSite,
    QuestionText, Verdict, VerdictCache, WrittenQuestion, laravel,
};
use crate::log_limit::LogLimit;
use crate::proxy::Proxy;
use crate::route::ProxySettings;
use crate::server::connection::ConnectionState;

/// The auth backends of a route, each with the connections of this shard.
#[derive(Clone, Debug, Default)]
pub(super) struct AuthBackends(Vec<Rc<KnownBackend>>);

/// The questions that are asked again while a stream is open: one, unless there are several backends or
/// channels.
pub(super) type Rechecked = SmallVec<[Rc<AuthQuestion>; 1]>;

/// A request that auth backends may be asked about.
pub(super) struct RequestAsker<'a> {
    backends: &'a AuthBackends,
    connection: &'a Rc<ConnectionState>,
    received_at: Instant,
    // The target of the request without tokens.
    target: &'a Uri,
    // The names of the channels that it asks for, as clients write them; `None` if that is not known.
    channels: Option<&'a [String]>,
    // The questions that were asked, and have to be asked again while a stream is open.
    asked: RefCell<Rechecked>,
}

impl AuthBackends {
    /// The backends of `methods`, whose verdicts are in `verdicts`. `connect` returns the connections to one.
    pub(super) fn new(
        methods: &[&MethodSettings],
        verdicts: &VerdictCache,
        connect: impl Fn(&ProxySettings) -> Proxy,
    ) -> Self {
        let warnings = Rc::<LogLimit>::default();
        let backends = methods.iter().filter_map(|method| match method {
            MethodSettings::Forward(backend) => {
                let backend = (backend, verdicts);
                Some(Rc::new(KnownBackend::new(backend, &connect, &warnings)))
            }
            _ => None,
        });
        Self(backends.collect())
    }

    /// Whether one of them decides on each channel of a request.
    pub(super) fn ask_by_channel(&self) -> bool {
        self.0.iter().any(|known| known.settings.preset == AuthPreset::Laravel)
    }

    /// The connections, which a reload keeps.
    pub(super) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.0.iter().map(|known| &known.proxy)
    }

    fn find(&self, backend: &Arc<ForwardAuth>) -> Result<&Rc<KnownBackend>, Verdict> {
        let found = self.0.iter().find(|known| known.settings == *backend);
        found.ok_or(Verdict::NotNow("the configuration has changed"))
    }
}

impl<'a> RequestAsker<'a> {
    /// Creates the asker for a request for `target`, without tokens, which arrived over `connection` at
    /// `received_at`. `channels`: the names that it asks for, as clients write them; `None` if they are not
    /// known.
    pub(super) fn new(
        backends: &'a AuthBackends,
        (connection, received_at): (&'a Rc<ConnectionState>, Instant),
        target: &'a Uri,
        channels: Option<&'a [String]>,
    ) -> Self {
        let asked = RefCell::default();
        Self { backends, connection, received_at, target, channels, asked }
    }

    /// Returns the questions that have to be asked again while a stream is open that `backends` have allowed.
    pub(super) fn rechecks(self, backends: &[Arc<ForwardAuth>]) -> Rechecked {
        let mut asked = self.asked.into_inner();
        asked.retain(|question| backends.contains(question.backend()));
        asked
    }

    /// Returns the questions whether `backend` allows `request`. The request is allowed if all of them are.
    ///
    /// # Errors
    /// It is refused without a question.
    fn questions(
        &self,
        backend: &Arc<ForwardAuth>,
        request: AuthRequest<'_>,
    ) -> Result<Vec<Rc<AuthQuestion>>, Verdict> {
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
    ) -> Rc<AuthQuestion> {
        self.write(known, request, target, |written, key| self.keep(known, written.keep(), key))
    }

    /// Writes a question, and calls `then` with it and its key.
    fn write<R>(
        &self,
        known: &KnownBackend,
        request: AuthRequest<'_>,
        target: &str,
        then: impl FnOnce(WrittenQuestion<'_>, CacheKey) -> R,
    ) -> R {
        let site = QuestionSite {
            backend: &known.name,
            target,
            host: &known.host(request),
            client: self.connection.client(),
            is_tls: self.connection.is_tls(),
            is_from_proxy: self.connection.is_trusted_proxy(),
        };
        let mut buffer = known.buffer.borrow_mut();
        let written = buffer.write(site, request, self.target);
        let key = known.verdicts.key(&written);
        then(written, key)
    }

    fn keep(
        &self,
        known: &Rc<KnownBackend>,
        text: QuestionText,
        key: CacheKey,
    ) -> Rc<AuthQuestion> {
        let asked = (self.connection, self.received_at);
        Rc::new(AuthQuestion::new(known, (text, key), asked))
    }

    /// Keeps a question that a backend has allowed with `fields`, if it is to be asked again.
    fn allowed(&self, question: Rc<AuthQuestion>, fields: &Arc<HeaderMap>) {
        let mut asked = self.asked.borrow_mut();
        // A request is verified again if something was revoked meanwhile.
        let is_known = asked.iter().any(|known| known.key() == question.key());
        if question.backend().recheck.is_some() && !is_known {
            question.establish(fields);
            asked.push(question);
        }
    }
}

impl AskBackend for RequestAsker<'_> {
    fn known(&self, backend: &Arc<ForwardAuth>, request: AuthRequest<'_>) -> Option<Verdict> {
        let known = self.backends.find(backend).ok()?;
        // The question for each channel is sent in the other way.
        if backend.preset != AuthPreset::Status {
            return None;
        }
        self.write(known, request, &backend.target, |written, key| {
            let (verdict, text) = known.verdicts.known(key, self.received_at)?;
            if let Verdict::Allowed(fields) = &verdict
                && backend.recheck.is_some()
            {
                let text = text.unwrap_or_else(|| written.keep());
                self.allowed(self.keep(known, text, key), fields);
            }
            Some(verdict)
        })
    }

    async fn ask(&self, backend: &Arc<ForwardAuth>, request: AuthRequest<'_>) -> Verdict {
        let questions = match self.questions(backend, request) {
            Ok(questions) => questions,
            Err(verdict) => return verdict,
        };
        let mut all = Arc::<HeaderMap>::default();
        for question in questions {
            match question.ask().await {
                Verdict::Allowed(fields) => {
                    self.allowed(question, &fields);
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
