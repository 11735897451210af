//! How a backend hands a stream over: the headers of GRIP, the Generic Realtime Intermediary
//! Protocol (<https://pushpin.org/docs/protocols/grip/>), as its libraries for PHP, Python and
//! JavaScript write and read them.
//!
//! [`instruct`] reads what a response says, [`signature`] shows the backend who asks, and the names
//! themselves stay between the two of us. What is done with a stream is not known here.

pub mod instruct;
pub mod signature;

use http::header::{HeaderMap, HeaderName};

/// Takes all headers of GRIP away, also those that CGI and its kin could take for them.
pub fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_grip(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// Whether this is a header of GRIP, or one that CGI and its kin could take for one.
pub fn is_grip(name: &HeaderName) -> bool {
    matches!(name.as_str().as_bytes(), [b'g', b'r', b'i', b'p', b'-' | b'_', ..])
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::strip;

    #[test]
    fn whatever_looks_like_grip_is_taken_away() {
        let mut headers = HeaderMap::new();
        for name in ["Grip-Sig", "GRIP-hold", "grip_sig", "grip-", "gripe", "x-grip-sig", "grip"] {
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
