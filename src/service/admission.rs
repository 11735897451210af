//! Admits a request to a route with `auth`, before anything is done for it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::SystemTime;

use http::{HeaderValue, Request, Uri};
use ssegate_auth::{Identity, Refusal};
use ssegate_hub::{ChannelName, Topic};
use tokio::time::Instant;

use super::auth_backends::{Rechecked, RequestAsker};
use super::kept::owner::Owner;
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::revocable::RevocableRequest;
use super::route_auth::RouteAuth;
use super::stream_guard::StreamGuard;
use super::stream_stopper::StreamStopper;
use super::{Service, cors};
use crate::auth::{Access, AskBackend, AuthRequest, Denial, QuotaGuard, Revocations, origin};
use crate::route::Route;
use crate::server::connection::ConnectionState;

/// What authentication has established about a request.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The client's identity; `None` on a route without `auth`.
    pub(super) identity: Option<Identity>,
    /// When its streams end; `None`: never.
    pub(super) expires_at: Option<Instant>,
    /// Whether it is a preflight, which has no credential, so that the gateway responds to it.
    pub(super) is_preflight: bool,
    /// The owner of its kept stream, on a route with `keep`; `None`: nobody.
    pub(super) owner: Option<Owner>,
    max_streams: Option<usize>,
    // The questions that are asked again while a stream is open. The stream takes them.
    questions: RefCell<Rechecked>,
    // `None`: nothing can be revoked.
    revocable: Option<Rc<RevocableRequest>>,
}

/// How many times a request is verified again because something was revoked meanwhile.
const MAX_VERIFIED_AGAIN: usize = 3;

impl Admission {
    /// A second registration of what may be revoked, for a task that may outlive the request.
    pub(super) fn revocable_again(&self) -> Option<Rc<RevocableRequest>> {
        self.revocable.as_ref().map(RevocableRequest::again)
    }

    /// The names of the channels that a stream keeps for revocations; none if nothing can be revoked.
    pub(super) fn channels_to_keep(&self, topics: &[Topic]) -> Box<[ChannelName]> {
        let is_kept = self.revocable.is_some();
        let names =
            topics.iter().filter(|_| is_kept).map(|topic| topic.subscription.name.in_redis());
        names.filter_map(|name| ChannelName::new(name).ok()).collect()
    }
}

/// A request that is to be admitted to a route.
#[derive(Clone, Copy)]
pub(super) struct Applicant<'a> {
    route: &'a Route,
    auth: &'a RouteAuth,
    request: AuthRequest<'a>,
    info: &'a RequestInfo,
    channels: Option<&'a [String]>,
    connection: &'a Rc<ConnectionState>,
}

impl<'a> Applicant<'a> {
    /// A request to `route`, over `connection`. `channels`: the names that it asks for, as clients write them;
    /// `None` if they are not known.
    pub(super) fn new<B>(
        (route, auth): (&'a Route, &'a RouteAuth),
        (request, info, channels): (&'a Request<B>, &'a RequestInfo, Option<&'a [String]>),
        connection: &'a Rc<ConnectionState>,
    ) -> Self {
        let is_stream = info.accepts_stream || route.channels.is_some();
        let request = AuthRequest { is_stream, ..AuthRequest::new(request) };
        Self { route, auth, request, info, channels, connection }
    }

    /// Its target without the tokens of other methods.
    fn target(&self) -> Cow<'a, Uri> {
        let uri = self.request.uri;
        self.auth.authenticator.without_tokens(uri).map_or(Cow::Borrowed(uri), Cow::Owned)
    }

    /// Whether a browser may have sent the credential for the page of another site.
    fn is_foreign(&self) -> bool {
        let origin = self.info.origin.as_ref();
        let is_foreign = match origin {
            Some(_) => origin::is_foreign(self.request, self.connection.is_tls()),
            None => self.route.channels.is_some() && origin::is_foreign_site(self.request),
        };
        is_foreign && !is_page_allowed(self.route, origin)
    }
}

impl Service {
    /// Admits or refuses a request at once; `None` if the decision takes time: then call [`Self::admit`].
    pub(super) fn admit_at_once(
        &self,
        applicant: Applicant<'_>,
    ) -> Option<Result<Admission, Rejection>> {
        if is_preflight_of_page(applicant.route, applicant.info) {
            return Some(Ok(Admission { is_preflight: true, ..Admission::default() }));
        }
        let target = applicant.target();
        let (asker, before) = (Self::asker(applicant, &target), self.revision());
        let verified =
            applicant.auth.authenticator.authenticate_at_once(applicant.request, &asker)?;
        let accepted = verified.and_then(|access| self.accept(access, before)).transpose()?;
        Some(self.conclude(applicant, accepted, asker))
    }

    /// Verifies the credential of a request that [`Self::admit_at_once`] cannot decide upon.
    ///
    /// # Errors
    /// There is no credential, it is not accepted, or a browser sends it for the page of another site.
    pub(super) async fn admit(&self, applicant: Applicant<'_>) -> Result<Admission, Rejection> {
        let target = applicant.target();
        let asker = Self::asker(applicant, &target);
        let verified = self.authenticate(applicant, &asker).await;
        self.conclude(applicant, verified, asker)
    }

    fn asker<'a>(applicant: Applicant<'a>, target: &'a Uri) -> RequestAsker<'a> {
        let Applicant { auth, info, connection, channels, .. } = applicant;
        let arrived = (connection, info.received_at);
        RequestAsker::new(&auth.backends, arrived, target, channels)
    }

    fn conclude(
        &self,
        applicant: Applicant<'_>,
        verified: Result<Access, Denial>,
        asker: RequestAsker<'_>,
    ) -> Result<Admission, Rejection> {
        let access = verified.map_err(|denial| self.denied(applicant, denial))?;
        if access.is_ambient && applicant.is_foreign() {
            self.metrics().auth_refused("foreign_origin");
            return Err(Rejection::ForeignOrigin);
        }
        // The current time: the auth backend may have taken a while.
        let left =
            access.ends.map(|ends| ends.duration_since(SystemTime::now()).unwrap_or_default());
        // A time beyond the range of the clock is as good as never.
        let expires_at = left.and_then(|left| Instant::now().checked_add(left));
        let max_streams = applicant.auth.authenticator.settings().max_streams;
        let questions = RefCell::new(asker.rechecks(&access.forwards));
        // Without an await since the list was checked: a revocation that is added later finds the request here.
        let is_revocable = self.auth().revocations.is_some();
        let revocable = is_revocable.then(|| self.revocable_requests().admit(access.identities()));
        let (identity, is_preflight) = (Some(access.identity), false);
        let owner = None;
        Ok(Admission {
            identity,
            expires_at,
            is_preflight,
            owner,
            max_streams,
            questions,
            revocable,
        })
    }

    fn denied(&self, Applicant { route, auth, .. }: Applicant<'_>, denial: Denial) -> Rejection {
        self.metrics().auth_refused(denial.as_str());
        tracing::debug!(route = &*route.label, %denial, "not admitted");
        match denial {
            Denial::Renewal => Rejection::Renewal,
            Denial::NotNow(why) => Rejection::CannotVerify(why),
            Denial::Busy => Rejection::PasswordsBusy,
            Denial::Response(response) => Rejection::OfAuthBackend(response),
            Denial::Refused(refusal) => {
                Rejection::Unauthorized(auth.authenticator.challenge(&refusal), refusal)
            }
        }
    }

    /// Verifies a credential, which must not be revoked. A verdict from before a revocation does not count.
    async fn authenticate<A: AskBackend>(
        &self,
        applicant: Applicant<'_>,
        asker: &A,
    ) -> Result<Access, Denial> {
        let now = SystemTime::now();
        for _ in 0..=MAX_VERIFIED_AGAIN {
            let before = self.revision();
            let authenticator = &applicant.auth.authenticator;
            let access = authenticator.authenticate(applicant.request, now, asker).await?;
            if let Some(access) = self.accept(access, before)? {
                return Ok(access);
            }
        }
        Err(Denial::NotNow("credentials are being revoked"))
    }

    /// Returns the verified access; `None` if it has to be verified again, because something was revoked since the
    /// revision `before`.
    fn accept(&self, access: Access, before: Option<u64>) -> Result<Option<Access>, Denial> {
        if self.auth().is_revoked(&access) {
            return Err(Denial::Refused(Refusal::Revoked));
        }
        let is_recent = access.forwards.is_empty() || self.revision() == before;
        Ok(is_recent.then_some(access))
    }

    fn revision(&self) -> Option<u64> {
        self.auth().revocations.as_ref().map(Revocations::revision)
    }

    /// Counts one more stream or tunnel of an identity. `None`: its number is not limited.
    fn count_in_quota(&self, admission: &Admission) -> Result<Option<QuotaGuard>, Rejection> {
        let Some(most) = admission.max_streams else { return Ok(None) };
        let account = admission.identity.as_ref().and_then(Identity::account);
        let account = account.ok_or(Rejection::Nameless)?;
        let guard = self.auth().quota.admit(&account, most);
        Ok(Some(guard.ok_or(Rejection::StreamsOfIdentity(most))?))
    }

    /// Counts one more stream or tunnel of an identity. Returns a guard that has to be kept while it is open and
    /// that needs to know how to end it; `None`: nothing is to be kept.
    ///
    /// # Errors
    /// It has the maximum number, or the credential has no identity, so that its streams cannot be counted.
    pub(super) fn admit_stream(
        &self,
        admission: &Admission,
    ) -> Result<Option<StreamGuard>, Rejection> {
        let quota = self.count_in_quota(admission)?;
        let questions = (admission.questions.take(), self.rechecks());
        Ok(StreamGuard::new(quota, questions, admission.revocable.as_ref()))
    }

    /// Returns a guard for a kept stream: it ends the stream when the credential that began it is revoked, even if
    /// its client has left. `None`: nothing is to be kept.
    pub(super) fn guard_kept(
        &self,
        revocable: Option<&Rc<RevocableRequest>>,
        stopper: StreamStopper,
    ) -> Option<StreamGuard> {
        let guard = StreamGuard::new(None, (Rechecked::default(), self.rechecks()), revocable)?;
        guard.watch(Box::default(), stopper);
        Some(guard)
    }
}

/// Whether this is a CORS preflight, which never has a credential (Fetch standard, section 4.8), of any page
/// for an events or a publish route, or of a page that may use the route for a backend.
fn is_preflight_of_page(route: &Route, info: &RequestInfo) -> bool {
    let is_own = route.channels.is_some() || route.publish.is_some();
    let is_allowed = || is_own || cors::lists(&route.settings.cors, info.origin.as_ref());
    info.preflight.is_some() && is_allowed()
}

/// Whether the page of another site may use the route with the user's cookies.
fn is_page_allowed(route: &Route, origin: Option<&HeaderValue>) -> bool {
    route.settings.cors.credentials && cors::lists(&route.settings.cors, origin)
}
