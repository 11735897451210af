//! Secrets as they are written in the file: plain, or after `base64:`. No message contains a part of one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

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

/// The message for a secret that is too short.
pub(super) fn too_short(length: usize, least: usize) -> String {
    format!(
        "has {length} bytes, at least {least} are required; generate one with: openssl rand -base64 32"
    )
}
