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
    /// The identities of the further credentials of an `all`: revoking any of them revokes the access.
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
    /// What decides is unreachable or busy, so nothing can be said of the request now. The text is for the client.
    #[error("{0}")]
    NotNow(&'static str),
    /// Too many others wait for their passwords to be verified.
    #[error("too many passwords wait to be verified")]
    Busy,
}

impl Access {
    /// The identity of each credential that was needed.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        [&self.identity].into_iter().chain(&self.further)
    }

    /// Combines two accesses. The first with a name gives the identity, and the earlier end counts. The access is
    /// ambient if one of them is: a page of another site can add the other itself, such as a signed URL that its
    /// author has.
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

    /// The denial that says more. A missing credential says least; a denial that may soon be lifted says most.
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
