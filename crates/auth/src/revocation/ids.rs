//! The ids by which a revocation finds an open stream.

use super::{SESSION_ID, TOKEN_ID};
use crate::Identity;

/// The ids by which a revocation finds an open stream. Each open stream keeps them, so they have only those
/// claims of its token that a revocation can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocableIds {
    pub(super) subject: Option<Box<str>>,
    pub(super) token: Option<Box<str>>,
    pub(super) session: Option<Box<str>>,
}

impl RevocableIds {
    /// Returns the ids of an identity.
    pub fn of(identity: &Identity) -> Self {
        let claim = |name| identity.claim(name).map(String::into_boxed_str);
        Self {
            subject: identity.id.as_deref().map(Box::from),
            token: claim(TOKEN_ID),
            session: claim(SESSION_ID),
        }
    }
}
