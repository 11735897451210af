//! Secrets as they are written in the file: plain, or after `base64:`. No message contains a part of one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::grip::signature::Secret;

/// The prefix of a base64-encoded secret, as GRIP libraries write it.
const BASE64: &str = "base64:";

/// The bytes of a secret.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix(BASE64) {
        Some(encoded) => {
            let bytes = BASE64_STANDARD.decode(encoded);
            bytes.map_err(|_not_base64| "the text after base64: is not valid base64".to_owned())
        }
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// A secret that the gateway and a server share.
pub(super) fn shared(text: &str) -> Result<Secret, String> {
    let bytes = bytes(text)?;
    let length = bytes.len();
    Secret::new(bytes).ok_or_else(|| too_short(length, Secret::MIN_BYTES))
}

/// The message for a secret that is too short.
pub(super) fn too_short(length: usize, least: usize) -> String {
    format!(
        "has {length} bytes, at least {least} are required; generate one with: openssl rand -base64 32"
    )
}

#[cfg(test)]
mod tests {
    use super::shared;

    #[test]
    fn a_short_key_is_rejected_and_no_message_contains_it() {
        let long = "hunter2-hunter2-hunter2-hunter2-";
        assert!(shared(long).is_ok());
        assert_eq!(
            shared("base64:aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMi0="),
            shared(long),
            "the same bytes"
        );
        for (text, hint) in [
            ("", "has 0 bytes"),
            ("hunter2", "has 7 bytes, at least 32 are required"),
            ("base64:aHVudGVyMg==", "has 7 bytes"),
            ("base64:hunter2!", "is not valid base64"),
        ] {
            let message = shared(text).expect_err(text);
            assert!(message.contains(hint), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
