//! Numbers in RESP: decimal ASCII.

/// Parses an integer with an optional sign; `None` if it is malformed or exceeds 64 bits.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (digits, is_negative) = match text {
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, false),
    };
    if digits.is_empty() {
        return None;
    }
    // Summed up as a negative number: `i64::MIN` has no positive counterpart.
    let mut sum = 0_i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if is_negative { Some(sum) } else { sum.checked_neg() }
}

/// Whether `text` is an integer of any length.
pub(super) fn is_decimal(text: &[u8]) -> bool {
    let digits = match text {
        [b'-' | b'+', digits @ ..] | digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Parses a floating-point number: digits, an exponent, `inf`, `-inf`, `nan`.
pub(super) fn double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{double, integer};

    #[test]
    fn integers_are_parsed_up_to_the_limits_of_64_bits() {
        let table: [(&str, Option<i64>); 12] = [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("1a", None),
            (" 1", None),
            ("?", None),
        ];
        for (text, number) in table {
            assert_eq!(integer(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn doubles_may_be_infinite_or_nan() {
        assert_eq!(double(b"1.5e3"), Some(1500.0));
        assert_eq!(double(b"-inf"), Some(f64::NEG_INFINITY));
        assert!(double(b"nan").expect("a double").is_nan());
        assert_eq!(double(b"\xff"), None);
    }
}
