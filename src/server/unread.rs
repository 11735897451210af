//! Bytes that were read from a connection, and that its reader has not been given.

use bytes::Bytes;
use tokio::io::ReadBuf;

/// Moves as much as `buf` has room for. Returns whether there was anything to move.
pub(crate) fn give(unread: &mut Bytes, buf: &mut ReadBuf<'_>) -> bool {
    if unread.is_empty() {
        return false;
    }
    let length = unread.len().min(buf.remaining());
    buf.put_slice(&unread.split_to(length));
    true
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use bytes::Bytes;
    use tokio::io::ReadBuf;

    use super::give;

    #[test]
    fn what_has_no_room_is_given_the_next_time() {
        let mut unread = Bytes::from_static(b"abcde");
        for expected in [b"abc".as_slice(), b"de"] {
            let mut room = [MaybeUninit::uninit(); 3];
            let mut buf = ReadBuf::uninit(&mut room);
            assert!(give(&mut unread, &mut buf));
            assert_eq!(buf.filled(), expected);
        }
        let mut room = [MaybeUninit::uninit(); 3];
        assert!(!give(&mut unread, &mut ReadBuf::uninit(&mut room)));
    }
}
