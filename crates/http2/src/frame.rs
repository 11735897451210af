//! The wire format of frames (RFC 9113, sections 3.4, 4 and 6).

/// The client connection preface, which a client sends first (section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of a frame header (section 4.1).
pub const FRAME_HEADER_LEN: usize = 9;
/// The largest payload that we accept: the default of SETTINGS_MAX_FRAME_SIZE (section 6.5.2).
pub const MAX_FRAME_SIZE: usize = 16 << 10;
/// The largest window, stream identifier or increment: 2^31-1. Masks the reserved bit.
pub const MAX_31_BITS: u32 = (1 << 31) - 1;

/// Frame types (section 6).
pub mod kind {
    /// Section 6.1.
    pub const DATA: u8 = 0;
    /// Section 6.2.
    pub const HEADERS: u8 = 1;
    /// Section 6.3; deprecated.
    pub const PRIORITY: u8 = 2;
    /// Section 6.4.
    pub const RST_STREAM: u8 = 3;
    /// Section 6.5.
    pub const SETTINGS: u8 = 4;
    /// Section 6.6.
    pub const PUSH_PROMISE: u8 = 5;
    /// Section 6.7.
    pub const PING: u8 = 6;
    /// Section 6.8.
    pub const GOAWAY: u8 = 7;
    /// Section 6.9.
    pub const WINDOW_UPDATE: u8 = 8;
    /// Section 6.10.
    pub const CONTINUATION: u8 = 9;
}

/// The initial window of every stream and of the connection (section 6.9.2), in octets.
pub const DEFAULT_WINDOW: u32 = 65_535;

/// Flags of frames (section 6).
pub mod flag {
    /// DATA, HEADERS: the last frame of this side of the stream.
    pub const END_STREAM: u8 = 0x1;
    /// SETTINGS, PING: an acknowledgement.
    pub const ACK: u8 = 0x1;
    /// HEADERS, CONTINUATION: the last frame of the header block.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS: padding follows the content.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: priority fields precede the header block. Deprecated.
    pub const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings (section 6.5.2).
pub mod setting {
    /// Whether a server may push.
    pub const ENABLE_PUSH: u16 = 0x2;
    /// Streams that the peer may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// The send window of a new stream, in octets.
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// The largest payload that is accepted, in octets.
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// The largest header list that is accepted, in octets; advisory.
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// Whether extended CONNECT may be used (RFC 8441, section 3).
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

    /// Octets of one setting.
    pub const SIZE: usize = 6;
}

/// A frame header (section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Octets of the payload.
    pub length: usize,
    /// The frame type, one of [`kind`].
    pub kind: u8,
    /// The bits of [`flag`].
    pub flags: u8,
    /// The stream identifier; 0 for the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Whether this flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Parses a frame header; `None` if it is incomplete.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = octets.first_chunk::<FRAME_HEADER_LEN>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_31_BITS,
        })
    }
}

/// Appends the header of a frame with `length` octets of payload.
pub fn put_frame_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).expect("no more than SETTINGS_MAX_FRAME_SIZE").to_be_bytes();
    let stream = stream.to_be_bytes();
    out.extend_from_slice(&[
        length[1], length[2], length[3], kind, flags, stream[0], stream[1], stream[2], stream[3],
    ]);
}

/// Writes a SETTINGS frame with these identifiers and values (section 6.5.1).
pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_frame_header(out, settings.len() * setting::SIZE, kind::SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Returns the identifiers and values in the payload of a SETTINGS frame, in its order. `None` if its
/// length is not that of whole settings: a connection error FRAME_SIZE_ERROR (section 6.5).
pub fn read_settings(payload: &[u8]) -> Option<impl Iterator<Item = (u16, u32)>> {
    let (settings, rest) = payload.as_chunks::<{ setting::SIZE }>();
    let read = |&[i0, i1, v0, v1, v2, v3]: &[u8; setting::SIZE]| {
        (u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))
    };
    rest.is_empty().then(|| settings.iter().map(read))
}

/// Writes a WINDOW_UPDATE frame (section 6.9) for a stream, or for the connection where `stream` is 0.
pub fn put_window_update(out: &mut Vec<u8>, stream: u32, octets: u32) {
    put_frame_header(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&octets.to_be_bytes());
}

/// Splits a header block into frames, as type, flags and payload: HEADERS, then CONTINUATION for
/// what exceeds `max_frame_size` octets (section 4.3). An empty block yields no frame.
pub fn header_block_frames(
    block: &[u8],
    max_frame_size: usize,
    is_last: bool,
) -> impl Iterator<Item = (u8, u8, &[u8])> {
    let last = block.len().div_ceil(max_frame_size).saturating_sub(1);
    block.chunks(max_frame_size).enumerate().map(move |(at, piece)| {
        let end_headers = if at == last { flag::END_HEADERS } else { 0 };
        let end_stream = if at == 0 && is_last { flag::END_STREAM } else { 0 };
        let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
        (kind, end_headers | end_stream, piece)
    })
}

/// Reads a 32-bit integer; `None` if it is incomplete. Stream identifiers and increments have a
/// reserved first bit, which the caller masks with [`MAX_31_BITS`].
pub fn read_u32(octets: &[u8]) -> Option<u32> {
    octets.first_chunk().copied().map(u32::from_be_bytes)
}

/// Strips the padding off a payload (sections 6.1 and 6.2); `None` if the padding is longer than
/// the payload.
pub fn without_padding(header: FrameHeader, payload: &[u8]) -> Option<&[u8]> {
    if !header.has(flag::PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

#[cfg(test)]
mod tests {
    use super::{FrameHeader, flag, kind, put_frame_header, without_padding};

    #[test]
    fn a_frame_header_is_parsed_as_it_was_written() {
        let mut octets = Vec::new();
        put_frame_header(&mut octets, 0x01_02_03, kind::HEADERS, flag::END_HEADERS, 0x0405_0607);
        assert_eq!(octets, [1, 2, 3, 1, 4, 4, 5, 6, 7]);
        assert_eq!(FrameHeader::parse(&octets[..8]), None);
        octets[5] |= 0x80; // the reserved bit
        let header = FrameHeader::parse(&octets).expect("complete");
        assert_eq!((header.length, header.kind, header.stream), (0x01_02_03, 1, 0x0405_0607));
        assert!(header.has(flag::END_HEADERS) && !header.has(flag::END_STREAM));
    }

    #[test]
    fn padding_is_stripped_and_never_longer_than_the_payload() {
        let header = FrameHeader { length: 0, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        for (payload, expected) in [
            (&b"\x02ab.."[..], Some(&b"ab"[..])),
            (b"\x00ab", Some(b"ab")),
            (b"\x02..", Some(b"")),
            (b"\x03..", None),
            (b"", None),
        ] {
            assert_eq!(without_padding(header, payload), expected, "{payload:?}");
        }
    }
}
