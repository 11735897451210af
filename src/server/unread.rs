//! Bytes that were read ahead of a connection's reader.

use bytes::Bytes;
use tokio::io::ReadBuf;

/// Moves bytes from `unread` into `buf`, as many as fit. Returns false if there were none.
pub(crate) fn read_into(unread: &mut Bytes, buf: &mut ReadBuf<'_>) -> bool {
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

    use super::read_into;

    #[test]
    fn bytes_that_do_not_fit_are_returned_by_the_next_read() {
        let mut unread = Bytes::from_static(b"abcde");
        for expected in [b"abc".as_slice(), b"de"] {
            let mut room = [MaybeUninit::uninit(); 3];
            let mut buf = ReadBuf::uninit(&mut room);
            assert!(read_into(&mut unread, &mut buf));
            assert_eq!(buf.filled(), expected);
        }
        let mut room = [MaybeUninit::uninit(); 3];
        assert!(!read_into(&mut unread, &mut ReadBuf::uninit(&mut room)));
    }
}
