//! The headers of GRIP, the Generic Realtime Intermediary Protocol
//! (<https://pushpin.org/docs/protocols/grip/>), with which a backend hands a stream over to the
//! gateway. Compatible with the GRIP libraries for PHP, Python and JavaScript.
//!
//! [`instruct`] parses the instructions of a response, [`signature`] signs requests. GRIP headers
//! are hop-by-hop between gateway and backend: [`strip`] removes them towards both sides. Does not
//! know what happens to a stream.

pub mod instruct;
pub mod signature;

use http::header::{HeaderMap, HeaderName};

/// Removes all GRIP headers, also in the spellings that CGI, PHP, WSGI and Rack cannot tell apart.
pub fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_grip(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// Whether this is a GRIP header, or one that CGI could take for one: `grip-`, `grip_`, `grip.`.
pub fn is_grip(name: &HeaderName) -> bool {
    match name.as_str().as_bytes() {
        [b'g', b'r', b'i', b'p', next, ..] => !next.is_ascii_alphanumeric(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::strip;

    #[test]
    fn grip_headers_are_removed_in_any_spelling() {
        let mut headers = HeaderMap::new();
        for name in [
            "Grip-Sig",
            "GRIP-hold",
            "grip_sig",
            "grip.sig",
            "grip~x",
            "grip-",
            "gripe",
            "x-grip-sig",
            "grip",
        ] {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_static("x"));
        }
        headers.append("grip-channel", HeaderValue::from_static("a"));
        headers.append("grip-channel", HeaderValue::from_static("b"));
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grip", "gripe", "x-grip-sig"]);
    }
}
