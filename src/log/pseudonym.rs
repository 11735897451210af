//! The hash that stands for a person in the access log.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of the hash that are kept: enough to tell a million people apart.
const KEPT: usize = 9;

/// Makes hashes of names, with a random key that never leaves the process: without it, nobody can find a name by
/// hashing all names.
#[derive(Debug)]
pub(super) struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// Makes a random key.
    pub(super) fn draw() -> Self {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new());
        Self(key.expect("the system has random numbers"))
    }

    /// The hash of a name: 12 characters.
    pub(super) fn of(&self, name: &str) -> String {
        let hash = hmac::sign(&self.0, name.as_bytes());
        URL_SAFE_NO_PAD.encode(&hash.as_ref()[..KEPT])
    }
}

#[cfg(test)]
mod tests {
    use super::Pseudonyms;

    #[test]
    fn one_person_has_one_hash_in_one_process() {
        let (one, other) = (Pseudonyms::draw(), Pseudonyms::draw());
        assert_eq!(one.of("jwt:42"), one.of("jwt:42"));
        assert_ne!(one.of("jwt:42"), one.of("jwt:43"));
        assert_ne!(one.of("jwt:42"), other.of("jwt:42"));
        assert_eq!(one.of("jwt:42").len(), 12);
    }
}
