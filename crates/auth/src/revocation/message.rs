//! A revocation as a message: a JSON Web Token that any library for these can make.
//!
//! Signed with HS256 and the control key, with the header `typ: ssegate-revoke+jwt`, so that no token for
//! another purpose passes as one (RFC 8725, section 3.11). Claims: `iat`, `exp` and `jti`, exactly one of
//! `sub`, `token`, `sid`, `channel` and `all: true`, and with `sub` perhaps `block: true`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Number, Value};

use super::{Revocation, RevocationTarget};
use crate::Refusal;
use crate::jwt::{self, Algorithm, JwtSettings, Key, KeySet, SigningKey};

/// The header `typ` of a message.
pub const MESSAGE_TYPE: &str = "ssegate-revoke+jwt";

/// The longest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// By how much the clock of the sender may be ahead.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// The key with which revocations are signed. Who has it may end every stream.
#[derive(Clone)]
pub struct ControlKey {
    signing: Arc<SigningKey>,
    verifying: KeySet,
}

impl ControlKey {
    /// The least length of a secret, in bytes: that of the hash (RFC 7518, section 3.2).
    pub const MIN_BYTES: usize = 32;

    /// Returns the key of a secret; `None` if that is shorter than [`Self::MIN_BYTES`].
    pub fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= Self::MIN_BYTES).then(|| Self {
            signing: Arc::new(SigningKey::from_secret(secret)),
            verifying: [Key::from_secret(secret)].into_iter().collect(),
        })
    }
}

impl PartialEq for ControlKey {
    fn eq(&self, other: &Self) -> bool {
        self.verifying == other.verifying
    }
}

impl Eq for ControlKey {}

impl fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlKey(…)")
    }
}

/// Returns the message of a revocation.
pub fn sign(revocation: &Revocation, key: &ControlKey) -> String {
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    claim("iat", seconds(revocation.issued).into());
    claim("exp", seconds(revocation.expires).into());
    claim("jti", revocation.nonce.as_str().into());
    match &revocation.target {
        RevocationTarget::Subject { id, is_blocked } => {
            claim("sub", id.as_str().into());
            if *is_blocked {
                claim("block", true.into());
            }
        }
        RevocationTarget::Token(id) => drop(claim("token", id.as_str().into())),
        RevocationTarget::Session(id) => drop(claim("sid", id.as_str().into())),
        RevocationTarget::Channel(name) => drop(claim("channel", name.as_str().into())),
        RevocationTarget::All => drop(claim("all", true.into())),
    }
    jwt::mint_typed(MESSAGE_TYPE, &claims, &key.signing, Algorithm::HS256, None)
        .expect("a secret signs with HS256")
}

/// Reads the message of a revocation.
///
/// # Errors
/// It is too long, not signed with `key`, of another type, expired, issued more than a minute after `now`,
/// or its claims are not those of a revocation.
pub fn read(text: &str, key: &ControlKey, now: SystemTime) -> Result<Revocation, Refusal> {
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::Malformed("longer than a revocation may be"));
    }
    let settings = JwtSettings {
        algorithms: vec![Algorithm::HS256],
        types: vec![MESSAGE_TYPE.to_owned()],
        leeway: Duration::ZERO,
        ..JwtSettings::default()
    };
    let verified = jwt::verify(text, &key.verifying, &settings, now)?;
    let issued = verified.issued.ok_or(Refusal::Claim("iat"))?;
    let expires = verified.expires.ok_or(Refusal::Claim("exp"))?;
    if issued.duration_since(now).is_ok_and(|ahead| ahead > MAX_AHEAD) {
        return Err(Refusal::NotYet);
    }
    let nonce = text_of(&verified.claims, "jti")?.ok_or(Refusal::Claim("jti"))?;
    Revocation::checked(target(&verified.claims)?, issued, expires, nonce)
}

pub(super) fn target(claims: &Map<String, Value>) -> Result<RevocationTarget, Refusal> {
    let is_blocked = flag(claims, "block")?;
    let targets = [
        text_of(claims, "sub")?.map(|id| RevocationTarget::Subject { id, is_blocked }),
        text_of(claims, "token")?.map(RevocationTarget::Token),
        text_of(claims, "sid")?.map(RevocationTarget::Session),
        text_of(claims, "channel")?.map(RevocationTarget::Channel),
        flag(claims, "all")?.then_some(RevocationTarget::All),
    ];
    let mut targets = targets.into_iter().flatten();
    match (targets.next(), targets.next()) {
        // A revoked token or session is refused in any case. To block everybody, change the configuration.
        (Some(target), None)
            if is_blocked && !matches!(target, RevocationTarget::Subject { .. }) =>
        {
            Err(Refusal::Malformed("`block` goes with `sub` alone"))
        }
        (Some(target), None) => Ok(target),
        _ => Err(Refusal::Malformed(
            "exactly one of `sub`, `token`, `sid`, `channel` and `all` is expected",
        )),
    }
}

/// A claim that is text. Many applications write ids as numbers.
fn text_of(claims: &Map<String, Value>, name: &'static str) -> Result<Option<String>, Refusal> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(Refusal::Claim(name)),
    }
}

fn flag(claims: &Map<String, Value>, name: &'static str) -> Result<bool, Refusal> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is_set)) => Ok(*is_set),
        Some(_) => Err(Refusal::Claim(name)),
    }
}

/// A NumericDate (RFC 7519, section 2): whole seconds where they are whole.
fn seconds(time: SystemTime) -> Number {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match since.subsec_nanos() {
        0 => since.as_secs().into(),
        _ => Number::from_f64(since.as_secs_f64()).expect("a time is finite"),
    }
}
