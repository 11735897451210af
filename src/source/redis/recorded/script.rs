//! The scripts, called by their hash: Redis is sent the text of one only where it does not have it yet.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::source::redis::connection::RedisConnection;

/// A script. Its first lines say what it does.
#[derive(Debug)]
pub(super) struct RecordScript {
    text: &'static str,
    // SHA-1, as `EVALSHA` has it.
    hash: String,
}

pub(super) static APPEND: LazyLock<RecordScript> =
    LazyLock::new(|| RecordScript::new(include_str!("append.lua")));
pub(super) static READ: LazyLock<RecordScript> =
    LazyLock::new(|| RecordScript::new(include_str!("read.lua")));
pub(super) static NEWEST: LazyLock<RecordScript> =
    LazyLock::new(|| RecordScript::new(include_str!("newest.lua")));
pub(super) static MARK: LazyLock<RecordScript> =
    LazyLock::new(|| RecordScript::new(include_str!("mark.lua")));

impl RecordScript {
    fn new(text: &'static str) -> Self {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, hash }
    }

    /// Queues a call. `arguments` are those behind the one key.
    pub(super) fn queue(
        &self,
        connection: &mut RedisConnection,
        has_text: bool,
        key: &str,
        arguments: &[Bytes],
    ) {
        let (command, script) = match has_text {
            true => ("EVAL", self.text),
            false => ("EVALSHA", &*self.hash),
        };
        let head = [command, script, "1", key];
        let mut words: Vec<Bytes> =
            head.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        words.extend_from_slice(arguments);
        connection.queue_bytes(&words);
    }
}

/// Whether an error reply says that the server does not have the script.
pub(super) fn is_unknown(message: &str) -> bool {
    message.starts_with("NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use super::MARK;

    #[test]
    fn the_hash_is_that_of_redis() {
        // redis-cli SCRIPT LOAD "$(cat mark.lua; echo x)" without the x would strip the last line break.
        assert_eq!(MARK.hash.len(), 40);
        let empty = super::RecordScript::new("");
        assert_eq!(empty.hash, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }
}
