//! The values of header fields, the same in every version of HTTP (RFC 9110).

use http::HeaderMap;
use http::header::EXPECT;

/// Strips optional whitespace (spaces and tabs) around a value, which is not part of it (RFC 9110,
/// section 5.5).
pub fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether the client waits for 100 (Continue) before it sends the body (RFC 9110, section 10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
