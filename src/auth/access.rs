//! The result of authentication: who may make a request, or why not.

use std::time::SystemTime;

use ssegate_auth::{Identity, Refusal};

/// Who may make a request, and until when.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who it is.
    pub identity: Identity,
    /// When its streams end; `None`: never.
    pub ends: Option<SystemTime>,
    /// Whether the browser sends the credential by itself, also for the page of another site.
    pub is_ambient: bool,
}

/// Why a request may not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no credential, or it is not accepted.
    Refused(Refusal),
    /// The token expired a moment ago, and the page may be about to renew it.
    Renewal,
}

impl Access {
    /// Both of two accesses: the first that names somebody says who it is, and the first to end ends both.
    /// The browser may have sent one of them for a page that added the other by itself, such as a URL that
    /// the page's author has been given.
    pub(super) fn and(mut self, other: Self) -> Self {
        let Self { identity, ends, is_ambient } = other;
        self.is_ambient |= is_ambient;
        self.ends = [self.ends, ends].into_iter().flatten().min();
        if self.identity.id.is_none() {
            self.identity.id = identity.id;
        }
        if self.identity.claims.is_empty() {
            self.identity.claims = identity.claims;
        }
        self.identity.issued = self.identity.issued.or(identity.issued);
        self
    }
}

impl Denial {
    /// The one of two denials that says more: a missing credential says least, one that is about to be
    /// renewed most.
    pub(super) fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Refused(Refusal::Missing), _) | (_, Self::Renewal) => other,
            _ => self,
        }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
