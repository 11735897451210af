//! Taking back what a credential permits before it expires.
//!
//! A revocation says whose streams end now, and which credentials are refused from now on. It travels as a
//! signed [message](sign), so that not everybody who may publish may also revoke, and each gateway keeps
//! those that it has seen in a [list](RevocationList) until they expire. Knows neither how messages travel
//! nor which streams are open; time is passed in.

mod batch;
mod cutoffs;
mod ids;
mod list;
mod message;

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use self::batch::RevocationBatch;
pub use self::ids::RevocableIds;
pub use self::list::{MAX_REVOCATIONS, RevocationList};
pub use self::message::{ControlKey, MAX_MESSAGE_BYTES, MESSAGE_TYPE, read, sign};
use crate::Refusal;

/// The longest time for which a revocation is remembered: longer than tokens live, and not for ever.
pub const MAX_REMEMBERED: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The longest id or channel that is revoked, in bytes.
const MAX_TARGET_BYTES: usize = 1024;

/// The longest nonce, in bytes.
const MAX_NONCE_BYTES: usize = 128;

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// The credentials of the identity with this id that were issued up to now and, if `is_blocked`, also
    /// those that are issued later.
    Subject {
        /// [`Identity::id`](crate::Identity::id).
        id: String,
        /// Whether new credentials are refused, too.
        is_blocked: bool,
    },
    /// The token with this id, its claim `jti`.
    Token(String),
    /// The tokens of this session, their claim `sid` (OpenID Connect Back-Channel Logout 1.0, section 2.1).
    Session(String),
    /// The streams that follow this channel. No credential is refused.
    Channel(String),
    /// Every token that was issued up to now, and every stream of somebody.
    All,
}

/// One decision to revoke something. It is well formed because it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    target: RevocationTarget,
    issued: SystemTime,
    expires: SystemTime,
    nonce: String,
}

impl Revocation {
    /// Returns a new revocation, with a nonce drawn at random. Its times are of whole milliseconds, which
    /// a message keeps.
    ///
    /// # Errors
    /// What is revoked is empty or longer than 1024 bytes, or `remembered` is longer than
    /// [`MAX_REMEMBERED`].
    pub fn new(
        target: RevocationTarget,
        issued: SystemTime,
        remembered: Duration,
    ) -> Result<Self, Refusal> {
        let expires = issued.checked_add(remembered).ok_or(Refusal::Claim("exp"))?;
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).expect("the system has random numbers");
        Self::checked(target, issued, expires, URL_SAFE_NO_PAD.encode(nonce))
    }

    fn checked(
        target: RevocationTarget,
        issued: SystemTime,
        expires: SystemTime,
        nonce: String,
    ) -> Result<Self, Refusal> {
        let is_target = target.text().is_none_or(|text| is_within(text, MAX_TARGET_BYTES));
        if !is_target {
            return Err(Refusal::Malformed("what is revoked is empty or longer than 1024 bytes"));
        }
        if !is_within(&nonce, MAX_NONCE_BYTES) {
            return Err(Refusal::Claim("jti"));
        }
        let (issued, expires) = (in_milliseconds(issued), in_milliseconds(expires));
        if expires.duration_since(issued).is_ok_and(|remembered| remembered > MAX_REMEMBERED) {
            return Err(Refusal::Claim("exp"));
        }
        Ok(Self { target, issued, expires, nonce })
    }

    /// What is revoked.
    pub fn target(&self) -> &RevocationTarget {
        &self.target
    }

    /// When it was decided.
    pub fn issued(&self) -> SystemTime {
        self.issued
    }

    /// Until when it is remembered.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Distinguishes the revocation from others. A repetition has the same nonce.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }
}

/// The claim with the id of a token (RFC 7519, section 4.1.7).
const TOKEN_ID: &str = "jti";

/// The claim with the session of a token.
const SESSION_ID: &str = "sid";

impl RevocationTarget {
    /// Reads a target from the claims of a message, or from JSON that says what to revoke: exactly one of
    /// `sub`, `token`, `sid`, `channel` and `all: true`, and with `sub` perhaps `block: true`. Other members
    /// are ignored.
    ///
    /// # Errors
    /// There is none, more than one, or it is of another type.
    pub fn from_claims(claims: &Map<String, Value>) -> Result<Self, Refusal> {
        message::target(claims)
    }

    /// The id or name in it.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Subject { id, .. } | Self::Token(id) | Self::Session(id) => Some(id),
            Self::Channel(name) => Some(name),
            Self::All => None,
        }
    }
}

fn is_within(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
}

/// The nearest whole millisecond: a message has seconds with a fraction, which is not an exact number of
/// nanoseconds.
fn in_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let rounded = since.checked_add(Duration::from_micros(500)).unwrap_or(since);
    let below_a_millisecond = Duration::from_nanos(u64::from(rounded.subsec_nanos() % 1_000_000));
    SystemTime::UNIX_EPOCH.checked_add(rounded - below_a_millisecond).unwrap_or(time)
}

#[cfg(test)]
mod tests;
