//! The query of a URL.

use percent_encoding::percent_decode_str;

/// The pairs of a query, decoded (WHATWG URL, section 5.1, `application/x-www-form-urlencoded`).
/// What is no UTF-8 becomes U+FFFD.
pub fn parse(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;

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
