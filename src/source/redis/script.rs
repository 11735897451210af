//! Scripts, called by their hash: Redis is sent the text of one only where it does not have it yet.

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::hex::hex;

/// A script. Its first lines say what it does.
#[derive(Debug)]
pub(crate) struct RedisScript {
    text: &'static str,
    // SHA-1, as `EVALSHA` has it.
    hash: String,
}

impl RedisScript {
    /// The script with this text.
    pub(crate) fn new(text: &'static str) -> Self {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { text, hash: hex(hash.as_ref()) }
    }

    /// Returns the command that calls the script. `arguments` are the keys, as many as given, and
    /// then the other arguments.
    pub(crate) fn call(
        &self,
        has_text: bool,
        keys: usize,
        arguments: impl Iterator<Item = Bytes>,
    ) -> Vec<Bytes> {
        let (command, script) = match has_text {
            true => ("EVAL", Bytes::from_static(self.text.as_bytes())),
            false => ("EVALSHA", Bytes::copy_from_slice(self.hash.as_bytes())),
        };
        let head = [Bytes::from_static(command.as_bytes()), script, keys.to_string().into()];
        head.into_iter().chain(arguments).collect()
    }
}

/// Whether an error reply says that the server does not have the script.
pub(crate) fn is_unknown(message: &str) -> bool {
    message.starts_with("NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use super::RedisScript;

    #[test]
    fn the_hash_is_that_of_redis() {
        let empty = RedisScript::new("");
        assert_eq!(empty.hash, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }
}
