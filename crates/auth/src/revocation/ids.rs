//! What an open stream is known by.

use super::{SESSION_ID, TOKEN_ID};
use crate::Identity;

/// What an open stream is known by: of the claims of its token only those that a revocation can name, since
/// each open stream keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocableIds {
    pub(super) subject: Option<Box<str>>,
    pub(super) token: Option<Box<str>>,
    pub(super) session: Option<Box<str>>,
}

impl RevocableIds {
    /// Returns those of an identity.
    pub fn of(identity: &Identity) -> Self {
        let claim = |name| identity.claim(name).map(String::into_boxed_str);
        Self {
            subject: identity.id.as_deref().map(Box::from),
            token: claim(TOKEN_ID),
            session: claim(SESSION_ID),
        }
    }
}
