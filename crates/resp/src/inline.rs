//! Inline commands: words on a line, as typed into telnet.

use bytes::Bytes;

use super::{ProtocolError, Value};

/// Splits a line into words as Redis does: at white space; `"…"` supports the escapes `\n`, `\r`,
/// `\t`, `\b`, `\a`, `\xHH` and `\` before any other byte; `'…'` supports `\'`.
pub(super) fn words(mut line: &[u8]) -> Result<Vec<Value>, ProtocolError> {
    let mut words = Vec::new();
    loop {
        line = line.trim_ascii_start();
        if line.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        line = read_word(line, &mut word)?;
        words.push(Value::Bulk(Bytes::from(word)));
    }
}

/// Reads the first word of `line`; returns what follows it.
fn read_word<'a>(mut line: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    while let [byte, rest @ ..] = line {
        match byte {
            byte if byte.is_ascii_whitespace() => break,
            b'"' => return double_quoted(rest, word),
            b'\'' => return single_quoted(rest, word),
            byte => word.push(*byte),
        }
        line = rest;
    }
    Ok(line)
}

/// Reads up to the closing quote; returns what follows it.
fn double_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, rest) = match text {
            [b'"', rest @ ..] => return after_quote(rest),
            [b'\\', b'x', high, low, rest @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), rest)
            }
            [b'\\', escaped, rest @ ..] => (unescape(*escaped), rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return Err(ProtocolError::UnbalancedQuotes),
        };
        word.push(byte);
        text = rest;
    }
}

fn single_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, rest) = match text {
            [b'\'', rest @ ..] => return after_quote(rest),
            [b'\\', b'\'', rest @ ..] => (b'\'', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return Err(ProtocolError::UnbalancedQuotes),
        };
        word.push(byte);
        text = rest;
    }
}

/// A closing quote must end its word.
fn after_quote(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest {
        [byte, ..] if !byte.is_ascii_whitespace() => Err(ProtocolError::UnbalancedQuotes),
        rest => Ok(rest),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::words;
    use crate::{ProtocolError, Value};

    fn split(line: &str) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let words = words(line.as_bytes())?;
        Ok(words
            .into_iter()
            .map(|word| match word {
                Value::Bulk(bytes) => bytes.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect())
    }

    #[test]
    fn lines_are_split_as_redis_splits_them() {
        let table: [(&str, &[&[u8]]); 8] = [
            ("", &[]),
            ("  \t ", &[]),
            ("PUBLISH news hello\r", &[b"PUBLISH", b"news", b"hello"]),
            (r#"ECHO "a b\n\x41\q\"""#, &[b"ECHO", b"a b\nAq\""]),
            (r"ECHO 'it\'s' ''", &[b"ECHO", b"it's", b""]),
            (r#"a"b c""#, &[b"ab c"]),
            (r#""\xZZ""#, &[b"xZZ"]),
            ("ä", &["ä".as_bytes()]),
        ];
        for (line, expected) in table {
            assert_eq!(split(line).expect(line), expected, "{line}");
        }
    }

    #[test]
    fn quotes_must_be_closed_and_end_their_word() {
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "'a\\'"] {
            assert_eq!(split(line), Err(ProtocolError::UnbalancedQuotes), "{line}");
        }
    }
}
