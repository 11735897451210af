//! Why a credential is refused.

use std::time::Duration;

/// Why a credential is not accepted. A client only receives 401; the rest is for the operator's log and
/// metrics. No text holds a part of the credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no credential where one is looked for.
    #[error("no credential")]
    Missing,
    /// The credential cannot be read: the value says what is wrong with it.
    #[error("malformed credential: {0}")]
    Malformed(&'static str),
    /// It is not one of the static tokens.
    #[error("the token is not known")]
    Unknown,
    /// The signature is not that of any key with which it may be signed.
    #[error("the signature does not verify with any of the keys")]
    Signature,
    /// No key has the token's `kid`. A set of keys that comes from elsewhere may have a new one.
    #[error("no key has the key id of the token")]
    UnknownKey,
    /// The name is unknown, or the password is wrong. Which of the two is not disclosed.
    #[error("the name or the password is wrong")]
    Password,
    /// The token's `alg` is not one of `algorithms`.
    #[error("the algorithm of the token is not allowed")]
    Algorithm,
    /// The claim or header with this name is absent or not as required.
    #[error("the claim `{0}` of the token is missing or has another value than required")]
    Claim(&'static str),
    /// The credential has expired.
    #[error("the credential expired {} s ago", .by.as_secs())]
    Expired {
        /// How long ago.
        by: Duration,
    },
    /// The credential is not valid yet.
    #[error("the credential is not valid yet")]
    NotYet,
    /// The credential was revoked, alone or together with others.
    #[error("the credential has been revoked")]
    Revoked,
}

impl Refusal {
    /// The value of a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Unknown => "unknown",
            Self::Signature => "signature",
            Self::Password => "password",
            Self::UnknownKey => "unknown_key",
            Self::Algorithm => "algorithm",
            Self::Claim(_) => "claim",
            Self::Expired { .. } => "expired",
            Self::NotYet => "not_yet",
            Self::Revoked => "revoked",
        }
    }
}
