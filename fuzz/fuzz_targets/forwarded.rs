#![no_main]
//! What a backend is told of where a request comes from: a stranger's words are never in it, and
//! those of a trusted proxy come first.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-ssl",
    "x-real-ip",
    "host",
    "cookie",
    "cookie",
];

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

// An octet that says who asks, and then lines: an octet that names a field, and its value.
fuzz_target!(|input: &[u8]| {
    let Some((&first, lines)) = input.split_first() else { return };
    let is_trusted = first & 1 != 0;
    let address: IpAddr = if first & 2 != 0 {
        [192, 0, 2, 7].into()
    } else {
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into()
    };
    let mut headers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
        // A request has one host.
        if let Ok(value) = HeaderValue::from_bytes(value)
            && (name != "host" || !headers.contains_key(&name))
        {
            headers.append(name, value);
        }
    }
    let said = headers.clone();
    ssegate::proxy::set_forwarded(&mut headers, address, is_trusted);

    let cookies = values(&said, "cookie").join(&b"; "[..]);
    assert_eq!(values(&headers, "cookie").concat(), cookies);
    assert!(values(&headers, "cookie").len() <= 1);
    assert_eq!(values(&headers, "host"), values(&said, "host"));
    let own = address.to_string();
    if is_trusted {
        let told = values(&headers, "x-forwarded-for");
        let before = values(&said, "x-forwarded-for");
        if before.is_empty() && said.contains_key("forwarded") {
            assert!(told.is_empty());
        } else {
            assert_eq!(told, [[&before[..], &[own.as_bytes()]].concat().join(&b", "[..])]);
        }
        for name in [
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x-forwarded-ssl",
            "x-real-ip",
        ] {
            assert!(!said.contains_key(name) || values(&headers, name) == values(&said, name));
        }
        return;
    }
    let bracketed = if address.is_ipv6() { format!("\"[{own}]\"") } else { own.clone() };
    assert_eq!(values(&headers, "x-forwarded-for"), [own.as_bytes()]);
    assert_eq!(values(&headers, "x-forwarded-proto"), [b"https"]);
    assert_eq!(values(&headers, "x-forwarded-host"), values(&said, "host"));
    for name in ["x-forwarded-port", "x-forwarded-ssl", "x-real-ip"] {
        assert!(values(&headers, name).is_empty(), "{name}");
    }
    let [forwarded] = values(&headers, "forwarded")[..] else { panic!("one field") };
    let element = forwarded.strip_prefix(format!("for={bracketed};").as_bytes());
    let host =
        element.and_then(|element| element.strip_suffix(b"proto=https")).expect("one element");
    // The host is in one token or one quotation, so that it cannot be another element.
    let host =
        host.strip_prefix(b"host=").and_then(|host| host.strip_suffix(b";")).unwrap_or_default();
    let is_quoted = matches!(host, [b'"', inner @ .., b'"'] if !inner.contains(&b'"') && !inner.contains(&b'\\'));
    let is_token = host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte));
    assert!(is_quoted || is_token, "{}", forwarded.escape_ascii());
});
