//! Bytes as hexadecimal digits.

/// The digits that stand for these bytes, two for each, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes for which these digits stand, in lower or upper case; `None`: there are other characters, or a half byte.
pub fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(value(high)? << 4 | value(low)?),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{hex, unhex};

    #[test]
    fn bytes_are_the_same_behind_their_digits() {
        for bytes in [&b""[..], b"\x00\x0f\xff", b"abc"] {
            assert_eq!(unhex(hex(bytes).as_bytes()).as_deref(), Some(bytes));
        }
        assert_eq!(hex(b"\x00\x0f\xff"), "000fff");
        assert_eq!(unhex(b"0AfF"), Some(vec![0x0a, 0xff]));
        for none in ["a", "0g", "+1", "0x", "é"] {
            assert_eq!(unhex(none.as_bytes()), None, "{none}");
        }
    }
}
