//! Where an event stream stands after its last byte: what may follow there.
//!
//! Follows the lines of WHATWG HTML, section 9.2.6, wherever the bytes were cut on their way, and
//! looks at a handful of them only. Pure.

/// The byte order mark that may open a stream, and that counts only there.
pub(super) const MARK: &[u8; 3] = b"\xef\xbb\xbf";
/// What shows whether a line is empty, and how the one before it ended: two line ends, of two bytes
/// each at most.
const LAST_BYTES: usize = 4;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Before its first byte.
    #[default]
    Start,
    /// So many bytes of what may be a byte order mark have come.
    Mark(usize),
    /// Somewhere in a line.
    InLine,
    /// Behind the end of a line. An empty one ends a block.
    LineEnd {
        /// Whether that line was empty.
        is_empty: bool,
        /// Whether it was ended by a CRLF.
        is_crlf: bool,
    },
    /// Behind a CR, whose LF may still come.
    AfterCr {
        /// Whether the line that it ends was empty.
        is_empty: bool,
        /// Whether the line before an empty one was ended by a CRLF: then an LF is expected here.
        is_in_crlf: bool,
    },
}

impl Place {
    /// Where the stream stands after these bytes.
    #[must_use]
    pub fn after(mut self, bytes: &[u8]) -> Self {
        let mut rest = bytes;
        while let (Self::Start | Self::Mark(_), Some((&byte, after))) = (self, rest.split_first()) {
            self = self.step(byte);
            rest = after;
        }
        if rest.len() > LAST_BYTES {
            rest = &rest[rest.len() - LAST_BYTES..];
            self = Self::InLine;
        }
        rest.iter().fold(self, |place, &byte| place.step(byte))
    }

    /// Whether all blocks so far are complete.
    pub fn is_between_blocks(self) -> bool {
        matches!(
            self,
            Self::Start
                | Self::LineEnd { is_empty: true, .. }
                | Self::AfterCr { is_empty: true, .. }
        )
    }

    /// What ends the line that is open here. Behind a CR it is the LF of a CRLF: some clients look at
    /// a line only when they know which of the two it is.
    pub fn line_end(self) -> &'static str {
        match self {
            Self::Start | Self::LineEnd { .. } => "",
            Self::Mark(_) | Self::InLine | Self::AfterCr { .. } => "\n",
        }
    }

    fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Start, first) if first == MARK[0] => Self::Mark(1),
            (Self::Mark(1), second) if second == MARK[1] => Self::Mark(2),
            (Self::Mark(2), third) if third == MARK[2] => {
                Self::LineEnd { is_empty: true, is_crlf: false }
            }
            (Self::AfterCr { is_empty, .. }, b'\n') => Self::LineEnd { is_empty, is_crlf: true },
            (_, b'\n') => Self::LineEnd { is_empty: self.is_at_line(), is_crlf: false },
            (_, b'\r') => {
                let is_in_crlf = matches!(self, Self::LineEnd { is_crlf: true, .. });
                Self::AfterCr { is_empty: self.is_at_line(), is_in_crlf }
            }
            _ => Self::InLine,
        }
    }

    fn is_at_line(self) -> bool {
        matches!(self, Self::Start | Self::LineEnd { .. } | Self::AfterCr { .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Place;

    #[test]
    fn a_stream_stands_where_its_last_bytes_say() {
        let line_end = |is_empty| Place::LineEnd { is_empty, is_crlf: false };
        let crlf = |is_empty| Place::LineEnd { is_empty, is_crlf: true };
        let after_cr = |is_empty| Place::AfterCr { is_empty, is_in_crlf: false };
        let in_crlf = Place::AfterCr { is_empty: true, is_in_crlf: true };
        for (stream, place) in [
            (&b""[..], Place::Start),
            (b"\xef", Place::Mark(1)),
            (b"\xef\xbb", Place::Mark(2)),
            (b"\xef\xbb\xbf", line_end(true)),
            (b"\xef\xbb\xbfdata", Place::InLine),
            (b"\xef\xbbx", Place::InLine),
            (b"\xef\xbb\n", line_end(false)),
            (b"\n", line_end(true)),
            (b"\r", after_cr(true)),
            (b"\r\n", crlf(true)),
            (b"data: x", Place::InLine),
            (b"data: x\n", line_end(false)),
            (b"data: x\r", after_cr(false)),
            (b"data: x\r\n", crlf(false)),
            (b"data: x\n\n", line_end(true)),
            (b"data: x\n\r", after_cr(true)),
            (b"data: x\r\r", after_cr(true)),
            (b"data: x\r\n\r", in_crlf),
            (b"data: x\r\n\r\n", crlf(true)),
            (b"data: x\n\r\n", crlf(true)),
            (b"data: x\r\n\n", line_end(true)),
        ] {
            let shown = String::from_utf8_lossy(stream);
            assert_eq!(Place::default().after(stream), place, "{shown:?}");
            let ended = place.after(place.line_end().as_bytes());
            assert!(matches!(ended, Place::Start | Place::LineEnd { .. }), "{shown:?}: {ended:?}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_were_cut(
            stream in prop::collection::vec(prop::sample::select(&b"\n\r:x\xef\xbb\xbf"[..]), 0..12),
            cut in 0usize..12,
        ) {
            let (first, second) = stream.split_at(cut.min(stream.len()));
            let by_bytes = stream.iter().fold(Place::Start, |place, &byte| place.after(&[byte]));
            prop_assert_eq!(Place::Start.after(&stream), by_bytes);
            prop_assert_eq!(Place::Start.after(first).after(second), by_bytes);
        }
    }
}
