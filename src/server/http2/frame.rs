//! Frames, as they stand on the wire (RFC 9113, sections 4 and 6).

/// Octets of a frame's head.
pub(crate) const HEAD: usize = 9;
/// The largest payload that we take: SETTINGS_MAX_FRAME_SIZE, and its default.
pub(crate) const MAX_PAYLOAD: usize = 16 << 10;
/// A window, a stream's number and a size have 31 bits.
pub(crate) const MAX_31_BITS: u32 = (1 << 31) - 1;

/// What a frame is; the values are those of section 6.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The window of every stream and of the connection before anything else is announced (section 6.9.2), in
/// octets.
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;

/// What is particular about a frame; the bits are those of section 6.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// What SETTINGS say; the values are those of section 6.5.2.
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// RFC 8441, section 3.
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

    /// Octets of one setting.
    pub(crate) const SIZE: usize = 6;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Octets of the payload.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// The stream that it is about; 0: the connection.
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Reads a head; `None` while there are fewer octets than it has.
    pub(crate) fn parse(octets: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = octets.first_chunk::<HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_31_BITS,
        })
    }
}

/// Writes the head of a frame with so many octets of payload.
pub(crate) fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).expect("a frame's length is bounded").to_be_bytes();
    let stream = stream.to_be_bytes();
    out.extend_from_slice(&[
        length[1], length[2], length[3], kind, flags, stream[0], stream[1], stream[2], stream[3],
    ]);
}

/// The frames of a header block, as kind, flags and payload: HEADERS, and CONTINUATION for what does not
/// fit into `max_payload` octets (section 4.3). A block without octets makes none.
pub(crate) fn of_header_block(
    block: &[u8],
    max_payload: usize,
    is_last: bool,
) -> impl Iterator<Item = (u8, u8, &[u8])> {
    let last = block.len().div_ceil(max_payload).saturating_sub(1);
    block.chunks(max_payload).enumerate().map(move |(at, piece)| {
        let end_headers = if at == last { flag::END_HEADERS } else { 0 };
        let end_stream = if at == 0 && is_last { flag::END_STREAM } else { 0 };
        let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
        (kind, end_headers | end_stream, piece)
    })
}

/// The number in the first 32 bits; `None` where there are fewer. In a stream's number and in a window the
/// first of them is reserved: the caller masks it with [`MAX_31_BITS`].
pub(crate) fn read_u32(octets: &[u8]) -> Option<u32> {
    octets.first_chunk().copied().map(u32::from_be_bytes)
}

/// The payload without its padding (sections 6.1 and 6.2); `None`: the padding is longer than that.
pub(crate) fn without_padding(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

#[cfg(test)]
mod tests {
    use super::{Head, flag, kind, put_head, without_padding};

    #[test]
    fn a_head_reads_as_it_was_written() {
        let mut octets = Vec::new();
        put_head(&mut octets, 0x01_02_03, kind::HEADERS, flag::END_HEADERS, 0x0405_0607);
        assert_eq!(octets, [1, 2, 3, 1, 4, 4, 5, 6, 7]);
        assert_eq!(Head::parse(&octets[..8]), None);
        octets[5] |= 0x80; // reserved
        let head = Head::parse(&octets).expect("complete");
        assert_eq!((head.length, head.kind, head.stream), (0x01_02_03, 1, 0x0405_0607));
        assert!(head.has(flag::END_HEADERS) && !head.has(flag::END_STREAM));
    }

    #[test]
    fn padding_is_taken_off_and_never_longer_than_the_payload() {
        let head = Head { length: 0, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        for (payload, expected) in [
            (&b"\x02ab.."[..], Some(&b"ab"[..])),
            (b"\x00ab", Some(b"ab")),
            (b"\x02..", Some(b"")),
            (b"\x03..", None),
            (b"", None),
        ] {
            assert_eq!(without_padding(head, payload), expected, "{payload:?}");
        }
    }
}
