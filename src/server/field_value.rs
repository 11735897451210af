//! The value of a header field on the wire (RFC 9110, section 5.5).

/// Strips optional whitespace (spaces and tabs) around a value, which is not part of it.
pub(super) fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
