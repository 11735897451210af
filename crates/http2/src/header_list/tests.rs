use http::{Method, Request};

use super::{ConnectProtocol, HeaderList, RequestError, content_length};
use crate::hpack::HpackDecoder;

fn request(fields: &[(&str, &str)]) -> Result<Request<()>, RequestError> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // a literal field without indexing
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut list = HeaderList::new(16 << 10);
    HpackDecoder::default().decode(&block, |field| list.add(field)).expect("valid HPACK");
    list.into_request().map_err(|refused| refused.why)
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/x?y=1")];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    GET.iter().chain(more).copied().collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    GET.into_iter().filter(|(other, _)| *other != name).collect()
}

#[test]
fn the_fields_of_a_request_make_its_method_uri_and_headers() {
    let request = request(&with(&[("accept", "a"), ("accept", "b"), ("te", "trailers")]));
    let request = request.expect("well-formed");
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.uri(), "https://a.example/x?y=1");
    assert_eq!(request.headers().get_all("accept").iter().count(), 2);
}

#[test]
fn host_replaces_a_missing_authority() {
    let mut fields = without(":authority");
    fields.push(("host", "a.example"));
    let request = request(&fields).expect("well-formed");
    assert_eq!(request.uri(), "https://a.example/x?y=1");
}

#[test]
fn a_websocket_is_an_extended_connect() {
    let mut fields = with(&[]);
    fields[0].1 = "CONNECT";
    assert!(request(&fields).is_err(), "a plain CONNECT has no path");
    fields.push((":protocol", "websocket"));
    let websocket = request(&fields).expect("well-formed");
    let protocol = websocket.extensions().get::<ConnectProtocol>().expect("a protocol");
    assert_eq!(protocol.as_str(), "websocket");
    let plain = [(":method", "CONNECT"), (":authority", "a.example:443")];
    assert_eq!(request(&plain).expect("well-formed").uri(), "a.example:443");
}

#[test]
fn malformed_requests_are_recognized() {
    let late = [("accept", "a"), (":method", "GET")];
    for (what, fields) in [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("two paths", with(&[(":path", "/")])),
        ("a pseudo-header field after regular fields", late.to_vec()),
        ("an unknown pseudo-header field", with(&[(":test", "1")])),
        ("a pseudo-header field of responses", with(&[(":status", "200")])),
        ("an upper-case name", with(&[("Accept", "a")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te", with(&[("te", "gzip")])),
        ("a line feed in a value", with(&[("accept", "a\nb")])),
        ("a space before a value", with(&[("accept", " a")])),
        ("a protocol without CONNECT", with(&[(":protocol", "websocket")])),
    ] {
        let why = request(&fields).expect_err(what);
        assert!(why.is_malformed(), "{what}: {why}");
    }
    let empty_path = [GET[0], GET[1], GET[2], (":path", "")];
    assert!(request(&empty_path).expect_err("an empty path").is_malformed());
}

#[test]
fn requests_that_are_invalid_without_being_malformed_are_refused() {
    let but = |name: &str, value: &'static str| {
        GET.map(|(other, old)| (other, if other == name { value } else { old })).to_vec()
    };
    let mut host = without(":authority");
    host.push(("host", "a:99999"));
    for (what, fields) in [
        ("a control character in a value", with(&[("accept", "a\u{1}b")])),
        ("a DEL in a value", with(&[("accept", "a\u{7f}b")])),
        ("a name that is not a token", with(&[("a(b", "1")])),
        ("a method that is not a token", but(":method", "G(T")),
        ("an authority of two names", but(":authority", "a,b")),
        ("an authority with a port beyond 16 bits", but(":authority", "a:99999")),
        ("an authority with an empty port", but(":authority", "a:")),
        ("an authority with user information", but(":authority", "me@a")),
        ("an empty authority", but(":authority", "")),
        ("an invalid host", host),
        ("an empty scheme", but(":scheme", "")),
        ("an unknown scheme", but(":scheme", "ftp")),
        ("an invalid scheme", but(":scheme", "ht tp")),
        ("a path with <", but(":path", "/x?y=<")),
        ("a path with a space", but(":path", "/x y")),
    ] {
        let why = request(&fields).expect_err(what);
        assert!(matches!(why, RequestError::Invalid(_)), "{what}: {why}");
    }
    let both = with(&[("accept", "a\u{1}b"), ("connection", "close")]);
    assert!(request(&both).expect_err("both").is_malformed(), "malformed takes precedence");
}

#[test]
fn values_that_http_allows_are_accepted() {
    for value in ["a\tb", "\u{e9}", "", "~"] {
        let request = request(&with(&[("last-event-id", value)])).expect("well-formed");
        assert_eq!(request.headers()["last-event-id"].as_bytes(), value.as_bytes());
    }
}

#[test]
fn a_header_list_above_the_limit_is_too_large() {
    let (name, value) = ("x".repeat(100), "y".repeat(100));
    let fields = vec![(name.as_str(), value.as_str()); 100];
    assert_eq!(request(&fields).err(), Some(RequestError::TooLarge));
}

#[test]
fn content_length_is_one_number_in_digits() {
    for (lengths, expected) in [
        (&[][..], Ok(None)),
        (&["12"], Ok(Some(12))),
        (&["12", "12"], Err(true)),
        (&["+1"], Err(true)),
        (&[""], Err(true)),
        (&["99999999999999999999999"], Err(true)),
    ] {
        let mut headers = http::HeaderMap::new();
        for length in lengths {
            headers.append("content-length", length.parse().expect("a value"));
        }
        let length = content_length(&headers).map_err(|why| why.is_malformed());
        assert_eq!(length, expected, "{lengths:?}");
    }
}
