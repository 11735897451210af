//! Why a stream is to stop, or a request that waits for one, in the words that Redis keeps of it.

use aws_lc_rs::digest::{SHA256, digest};

use super::stream::CancelReason;
use crate::hex::hex;

/// Separates the reason from the hash of the path.
const OF_PATH: char = '@';

/// The word for what a `DELETE` stops: with `path`, only what was requested there. Only the gateway
/// at which a request waits knows its path, so it is told which one is meant.
pub(super) fn deleted_word(path: Option<&str>) -> String {
    let reason = CancelReason::Deleted.as_str();
    path.map_or_else(|| reason.to_owned(), |path| format!("{reason}{OF_PATH}{}", path_hash(path)))
}

/// Why something is stopped that was requested at `path`: the first of the words that means it says so. `None`: all mean
/// other paths.
pub(super) fn stop_reason(words: &str, path: &str) -> Option<CancelReason> {
    words.split(' ').find_map(|word| {
        let (reason, of_path) = word.split_once(OF_PATH).unwrap_or((word, ""));
        let is_meant = of_path.is_empty() || of_path == path_hash(path);
        // Also what a later version may say.
        let is_replaced = reason == CancelReason::Replaced.as_str();
        is_meant.then_some(if is_replaced { CancelReason::Replaced } else { CancelReason::Deleted })
    })
}

/// A path as one short word without spaces.
fn path_hash(path: &str) -> String {
    hex(digest(&SHA256, path.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::{deleted_word, stop_reason};
    use crate::service::kept::stream::CancelReason;

    #[test]
    fn a_word_says_why_and_which_path_is_meant() {
        for word in ["deleted", "else", &deleted_word(None), &deleted_word(Some("/chat"))] {
            assert_eq!(stop_reason(word, "/chat"), Some(CancelReason::Deleted), "{word}");
        }
        assert_eq!(stop_reason("replaced", "/chat"), Some(CancelReason::Replaced));
        assert_eq!(stop_reason(&deleted_word(Some("/chat")), "/draft"), None);
        assert!(!deleted_word(Some("/a b")).contains(' '), "it is a word of a message");
    }

    #[test]
    fn of_several_words_the_first_that_means_the_path_says_why() {
        let words = ["/chat", "/draft"].map(|path| deleted_word(Some(path))).join(" ");
        for path in ["/chat", "/draft"] {
            assert_eq!(stop_reason(&words, path), Some(CancelReason::Deleted), "{path}");
        }
        assert_eq!(stop_reason(&words, "/else"), None);
        let words = format!("{words} replaced");
        assert_eq!(stop_reason(&words, "/draft"), Some(CancelReason::Deleted));
        assert_eq!(stop_reason(&words, "/else"), Some(CancelReason::Replaced));
    }
}
