//! The addresses of kept streams in a text: whoever knows one may read a stream that is public.

use std::borrow::Cow;

/// Replaces a secret.
pub(super) const MASK: &str = "***";

/// The beginning of their paths, without the first slash.
const PREFIX: &[u8] = b".ssegate/kept/";

/// Returns a text with what follows [`PREFIX`] masked, wherever it stands and however often it is percent-encoded: a
/// target, or a URL in the query of one.
pub(super) fn mask(text: &[u8]) -> Cow<'_, [u8]> {
    let mut masked: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while at < text.len() {
        let Some(id) = end_of_prefix(text, at) else {
            at += 1;
            continue;
        };
        let mut end = id;
        while let Some((byte, next)) = decode(text, end)
            && byte.is_ascii_alphanumeric()
        {
            end = next;
        }
        if end > id {
            let masked = masked.get_or_insert_default();
            masked.extend_from_slice(&text[copied..id]);
            masked.extend_from_slice(MASK.as_bytes());
            copied = end;
        }
        at = end;
    }
    match masked {
        Some(mut masked) => {
            masked.extend_from_slice(&text[copied..]);
            Cow::Owned(masked)
        }
        None => Cow::Borrowed(text),
    }
}

/// The offset after the prefix, if the prefix is at this offset.
fn end_of_prefix(text: &[u8], at: usize) -> Option<usize> {
    PREFIX.iter().try_fold(at, |at, expected| {
        let (byte, next) = decode(text, at)?;
        byte.eq_ignore_ascii_case(expected).then_some(next)
    })
}

/// The byte at this offset, and the offset after it. `%2F`, `%252F` and so on are one byte.
fn decode(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let first = *text.get(at)?;
    let mut digits = at + 1;
    if first == b'%' {
        while text[digits..].starts_with(b"25") {
            digits += 2;
        }
        let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
        if let (Some(high), Some(low)) = (digit(digits), digit(digits + 1)) {
            return Some((u8::try_from(high * 16 + low).ok()?, digits + 2));
        }
    }
    Some((first, at + 1))
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn addresses_are_masked_wherever_they_stand() {
        for (text, expected) in [
            ("/.ssegate/kept/abc27", "/.ssegate/kept/***"),
            ("/.ssegate/kept/abc27/x?y", "/.ssegate/kept/***/x?y"),
            ("/.ssegate/kept/%61bc", "/.ssegate/kept/***"),
            ("/%2essegate/KEPT/abc", "/%2essegate/KEPT/***"),
            ("/?u=%2F.ssegate%2fkept%2Fabc&v=1", "/?u=%2F.ssegate%2fkept%2F***&v=1"),
            (
                "/?u=%252F.ssegate%252fkept%25252Fabc%26v",
                "/?u=%252F.ssegate%252fkept%25252F***%26v",
            ),
            (
                "https://a/.ssegate/kept/a https://b/.ssegate/kept/b",
                "https://a/.ssegate/kept/*** https://b/.ssegate/kept/***",
            ),
            ("/.ssegate/kept/.ssegate/kept/a", "/.ssegate/kept/.ssegate/kept/***"),
        ] {
            let masked = mask(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&masked), expected, "{text}");
        }
        for same in [
            "",
            "/",
            "%",
            "%2",
            "%25",
            "/.ssegate/kept/",
            "/.ssegate/kept",
            "/kept/abc",
            "\u{e4}%ff",
        ] {
            assert!(matches!(mask(same.as_bytes()), std::borrow::Cow::Borrowed(_)), "{same}");
        }
    }
}
