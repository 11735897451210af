#![no_main]
//! What a backend is told of where a request comes from: a stranger's words are never in it.

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 8] = [
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
    "x-real-ip", "host", "cookie",
];

fuzz_target!(|input: (Vec<(u8, Vec<u8>)>, bool, [u8; 16])| {
    let (fields, is_trusted, address) = input;
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().take(32) {
        let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let before = headers.get_all("x-forwarded-for").iter().count();
    ssegate::proxy::tell_where_from(&mut headers, address.into(), is_trusted);
    if !is_trusted {
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1, "of {before}");
        assert!(!headers.contains_key("x-real-ip"));
    }
});
