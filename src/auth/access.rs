//! The result of authentication: who may make a request, or why not.

use std::sync::Arc;
use std::time::SystemTime;

use smallvec::SmallVec;
use ssegate_auth::{Identity, Refusal};

use super::settings::ForwardAuth;
use super::verdict::AuthResponse;

/// Who may make a request, and until when.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who it is.
    pub identity: Identity,
    /// Who it is by further credentials that it needs, too: to revoke any of them revokes the access.
    pub further: Vec<Identity>,
    /// When its streams end; `None`: never.
    pub ends: Option<SystemTime>,
    /// Whether the browser sends the credential by itself, also for the page of another site.
    pub is_ambient: bool,
    /// The auth backends that allow it, to be asked again while a stream is open.
    pub forwards: SmallVec<[Arc<ForwardAuth>; 1]>,
}

/// Why a request may not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// There is no credential, or it is not accepted.
    #[error("{0}")]
    Refused(Refusal),
    /// The token expired a moment ago, and the page may be about to renew it.
    #[error("the token has just expired")]
    Renewal,
    /// The auth backend refuses with this response.
    #[error("the auth backend responded {}", .0.status)]
    Response(Arc<AuthResponse>),
    /// It cannot be said now whether the request is allowed: what decides is away or busy. The text is for the
    /// client.
    #[error("{0}")]
    NotNow(&'static str),
    /// Too many others wait for their passwords to be verified.
    #[error("too many passwords wait to be verified")]
    Busy,
}

impl Access {
    /// Who it is by each credential that it needs.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        [&self.identity].into_iter().chain(&self.further)
    }

    /// Both of two accesses: the first that names somebody says who it is, and the first to end ends both.
    /// The browser may have sent one of them for a page that added the other by itself, such as a URL that
    /// the page's author has been given.
    pub(super) fn and(mut self, other: Self) -> Self {
        let Self { identity, further, ends, is_ambient, forwards } = other;
        self.further.extend([identity.clone()].into_iter().chain(further));
        self.forwards.extend(forwards);
        self.identity.fields = match (self.identity.fields, identity.fields) {
            (Some(mut ours), Some(theirs)) => {
                Arc::make_mut(&mut ours).extend(Arc::unwrap_or_clone(theirs));
                Some(ours)
            }
            (ours, theirs) => ours.or(theirs),
        };
        self.is_ambient |= is_ambient;
        self.ends = [self.ends, ends].into_iter().flatten().min();
        if self.identity.id.is_none() {
            self.identity.id = identity.id;
            self.identity.method = identity.method;
        }
        if self.identity.claims.is_empty() {
            self.identity.claims = identity.claims;
        }
        self.identity.issued = self.identity.issued.or(identity.issued);
        self
    }
}

impl Denial {
    /// The value of a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.as_str(),
            Self::Renewal => "renewal",
            Self::Response(_) => "auth_backend",
            Self::NotNow(_) => "not_now",
            Self::Busy => "busy",
        }
    }

    /// The one of two denials that says more: a missing credential says least, one that may pass later most.
    pub(super) fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Refused(Refusal::Missing), _)
            | (_, Self::Renewal | Self::NotNow(_) | Self::Busy) => other,
            _ => self,
        }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
