//! Parses the query string of a URL.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Decodes the name-value pairs of a query string (WHATWG URL §5.1,
/// `application/x-www-form-urlencoded`). Invalid UTF-8 becomes U+FFFD.
pub fn parse(query: &str) -> Vec<(String, String)> {
    pairs(query).map(|(key, value)| (lossy(&decode(key)), lossy(&decode(value)))).collect()
}

/// Like [`parse`], for values that must not be altered: a value that is not valid UTF-8 is `None`.
pub fn parse_strictly(query: &str) -> Vec<(String, Option<String>)> {
    pairs(query)
        .map(|(key, value)| (lossy(&decode(key)), String::from_utf8(decode(value)).ok()))
        .collect()
}

/// The query without the parameters of these names, whose values stay as they are written.
pub fn without<'q>(query: &'q str, names: &[&str]) -> Cow<'q, str> {
    let is_kept = |part: &&str| {
        let key = part.split_once('=').map_or(*part, |(key, _)| key);
        !names.contains(&&*percent_decode_str(key).decode_utf8_lossy())
    };
    match query.split('&').all(|part| is_kept(&part)) {
        true => query.into(),
        false => query.split('&').filter(is_kept).collect::<Vec<_>>().join("&").into(),
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_strictly};

    #[test]
    fn invalid_utf8_is_distinguished_from_a_replacement_character() {
        let values: Vec<_> = parse_strictly("a=%ff&b=%ef%bf%bd&c").into_iter().collect();
        let expected = [("a", None), ("b", Some("\u{fffd}")), ("c", Some(""))];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        assert_eq!(values, expected);
    }

    #[test]
    fn pairs_are_decoded_once() {
        let pairs = parse("a=1&b=x+y&b=%2525&c&=d&&e=f=g&%61=%ff");
        let expected = [
            ("a", "1"),
            ("b", "x y"),
            ("b", "%25"),
            ("c", ""),
            ("", "d"),
            ("e", "f=g"),
            ("a", "\u{fffd}"),
        ];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
