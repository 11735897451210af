//! The ids of kept streams and of their events.

use aws_lc_rs::rand;

/// RFC 4648, section 6, in lower case: it does not depend on case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// The characters of an id: 130 bits, of which 128 are random.
const ID_LENGTH: usize = 26;

/// An id that nobody can guess.
pub(in crate::service) fn new_id() -> Box<str> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system has random numbers");
    let mut number = u128::from_be_bytes(bytes);
    let mut id = String::with_capacity(ID_LENGTH);
    for _ in 0..ID_LENGTH {
        id.push(char::from(BASE32[(number % 32) as usize]));
        number /= 32;
    }
    id.into()
}

/// Whether this has the form of the id of a stream.
pub(super) fn is_stream_id(id: &str) -> bool {
    id.len() == ID_LENGTH && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}

/// Parses the id of an event that the gateway has numbered: the stream's id, and the number of the
/// event.
pub(in crate::service) fn parse_event_id(id: &[u8]) -> Option<(&str, u64)> {
    let (stream, number) = str::from_utf8(id).ok()?.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_stream_id(stream) && is_number).then_some(())?;
    Some((stream, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_event_id;

    #[test]
    fn only_ids_of_ours_are_taken_for_them() {
        let stream = "abcdefghijklmnopqrstuvwxyz";
        assert_eq!(parse_event_id(format!("{stream}-17").as_bytes()), Some((stream, 17)));
        for other in [
            "",
            "17",
            "a-17",
            "abcdefghijklmnopqrstuvwxyz",
            "abcdefghijklmnopqrstuvwxyz-",
            "abcdefghijklmnopqrstuvwxyz-+1",
            "abcdefghijklmnopqrstuvwxyz-1-2",
            "Abcdefghijklmnopqrstuvwxyz-1",
            "abcdefghijklmnopqrstuvwxyz-99999999999999999999",
        ] {
            assert_eq!(parse_event_id(other.as_bytes()), None, "{other}");
        }
    }
}
