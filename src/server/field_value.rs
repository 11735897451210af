//! The value of a header field as it is sent (RFC 9110, section 5.5).

/// Removes the spaces and tabs around a value: they do not belong to it.
pub(super) fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
