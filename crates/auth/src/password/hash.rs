//! The hash of one password.

use std::fmt;

use argon2::password_hash::PasswordVerifier as _;
use argon2::{ARGON2ID_IDENT, Argon2, Params, Version};
use bcrypt::HashParts;

/// The costs of a bcrypt hash: 2^cost rounds. 14 takes one to two seconds; below 4 nothing is defined.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// The most memory of an argon2id hash, in KiB: what one login may take.
const MAX_MEMORY_KIB: u32 = 256 << 10;

/// The most memory times passes of an argon2id hash, in KiB: one to three seconds. PHP writes 64 MiB and 4
/// passes.
const MAX_WORK_KIB: u64 = 1 << 20;

/// The most lanes of an argon2id hash. They are computed one after another.
const MAX_LANES: u32 = 64;

/// A hash that makes every guess slow.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum PasswordHash {
    /// As `htpasswd -B` writes it.
    Bcrypt(String),
    /// In the PHC string format (RFC 9106 is argon2 itself).
    Argon2id(Box<argon2::PasswordHash>),
}

/// Why a hash cannot be used. No text holds a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// It can be guessed fast; the value says which it is.
    #[error(
        "the password is stored as {0}, which protects it too little; `htpasswd -B FILE NAME` stores a bcrypt hash"
    )]
    Weak(&'static str),
    /// It is not bcrypt or argon2id, or not all of it is there.
    #[error("the {0} hash is damaged; `htpasswd -B FILE NAME` stores a bcrypt hash")]
    Damaged(&'static str),
    /// A bcrypt hash whose verification takes too long, or means nothing.
    #[error("the bcrypt hash has cost {0}; 4 to 14 are supported: `htpasswd -B -C 12 FILE NAME`")]
    Cost(u32),
    /// An argon2id hash whose verification takes too much memory or time.
    #[error(
        "the argon2id hash takes {memory_kib} KiB and {passes} passes; at most 262144 KiB, and 1 GiB in all passes together, are supported: memory_cost 65536, time_cost 4, or bcrypt with `htpasswd -B FILE NAME`"
    )]
    Work {
        /// The memory, in KiB.
        memory_kib: u32,
        /// The number of passes over it.
        passes: u32,
    },
    /// An argon2id hash with too many lanes.
    #[error("the argon2id hash has {0} lanes; at most 64 are supported")]
    Lanes(u32),
}

impl PasswordHash {
    pub(super) fn parse(text: &str) -> Result<Self, PasswordHashError> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return bcrypt(text);
        }
        if text.starts_with("$argon2id$") {
            return argon2id(text);
        }
        Err(PasswordHashError::Weak(weak(text)))
    }

    /// Whether it is the hash of `password`. bcrypt reads no more than its first 72 bytes, as everywhere.
    pub(super) fn is_of(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2id(hash) => {
                Argon2::default().verify_password(password.as_bytes(), hash.as_ref()).is_ok()
            }
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt(_) => "Bcrypt(…)",
            Self::Argon2id(_) => "Argon2id(…)",
        })
    }
}

fn bcrypt(text: &str) -> Result<PasswordHash, PasswordHashError> {
    let parts: HashParts = text.parse().map_err(|_| PasswordHashError::Damaged("bcrypt"))?;
    match parts.get_cost() {
        cost if BCRYPT_COSTS.contains(&cost) => Ok(PasswordHash::Bcrypt(text.to_owned())),
        cost => Err(PasswordHashError::Cost(cost)),
    }
}

fn argon2id(text: &str) -> Result<PasswordHash, PasswordHashError> {
    const DAMAGED: PasswordHashError = PasswordHashError::Damaged("argon2id");
    let hash = argon2::PasswordHash::new(text).map_err(|_| DAMAGED)?;
    let params = Params::try_from(&hash).map_err(|_| DAMAGED)?;
    let is_whole = hash.algorithm == ARGON2ID_IDENT
        && hash.version == Some(Version::V0x13.into())
        && hash.salt.as_ref().is_some_and(|salt| salt.len() >= argon2::MIN_SALT_LEN)
        && hash.hash.as_ref().is_some_and(|output| output.len() >= 16)
        && params.keyid().is_empty()
        && params.data().is_empty();
    if !is_whole {
        return Err(DAMAGED);
    }
    let (memory_kib, passes) = (params.m_cost(), params.t_cost());
    if memory_kib > MAX_MEMORY_KIB || u64::from(memory_kib) * u64::from(passes) > MAX_WORK_KIB {
        return Err(PasswordHashError::Work { memory_kib, passes });
    }
    match params.p_cost() {
        lanes if lanes <= MAX_LANES => Ok(PasswordHash::Argon2id(Box::new(hash))),
        lanes => Err(PasswordHashError::Lanes(lanes)),
    }
}

/// The kind of a hash that is neither bcrypt nor argon2id.
fn weak(text: &str) -> &'static str {
    let is_crypt = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    match text {
        _ if text.starts_with("$apr1$") || text.starts_with("$1$") => "MD5",
        _ if text.starts_with("{SHA}") || text.starts_with("{SSHA}") => "SHA-1",
        _ if text.starts_with("$5$") || text.starts_with("$6$") => "SHA-2 crypt",
        _ if text.starts_with("$argon2") => "argon2i or argon2d instead of argon2id",
        _ if text.len() == 13 && text.bytes().all(is_crypt) => "DES crypt or plain text",
        _ => "plain text or in a form that is not known",
    }
}
