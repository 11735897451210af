//! The state of an event stream after its last byte, which decides what may follow.
//!
//! Tracks lines as in WHATWG HTML §9.2.6, however the bytes are split, and examines only the last
//! few bytes. Pure.

/// The byte order mark, which counts only at the start of a stream.
pub(super) const BYTE_ORDER_MARK: &[u8; 3] = b"\xef\xbb\xbf";
/// The longest suffix that determines the state, in bytes: two line endings of at most two bytes
/// each. They show whether the last line is empty, and how the line before it ended.
const LAST_BYTES: usize = 4;

/// The state of a stream after its last byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineState {
    /// Before its first byte.
    #[default]
    Start,
    /// After this many bytes of what may be a byte order mark.
    ByteOrderMark(usize),
    /// Inside a line.
    InLine,
    /// After a line ending. The end of an empty line ends a block.
    LineEnd {
        /// Whether the line was empty.
        is_empty: bool,
        /// Whether the line ended with CRLF.
        is_crlf: bool,
    },
    /// After a CR, to which a following LF would belong.
    AfterCr {
        /// Whether the line that it ends was empty.
        is_empty: bool,
        /// Whether the line before an empty one ended with CRLF: then an LF is expected here.
        is_in_crlf: bool,
    },
}

impl LineState {
    /// Returns the state after `bytes`.
    #[must_use]
    pub fn after(mut self, bytes: &[u8]) -> Self {
        let mut rest = bytes;
        while let (Self::Start | Self::ByteOrderMark(_), Some((&byte, after))) =
            (self, rest.split_first())
        {
            self = self.step(byte);
            rest = after;
        }
        if rest.len() > LAST_BYTES {
            rest = &rest[rest.len() - LAST_BYTES..];
            self = Self::InLine;
        }
        rest.iter().fold(self, |state, &byte| state.step(byte))
    }

    /// Whether every block so far is complete.
    pub fn is_between_blocks(self) -> bool {
        matches!(
            self,
            Self::Start
                | Self::LineEnd { is_empty: true, .. }
                | Self::AfterCr { is_empty: true, .. }
        )
    }

    /// The line ending that completes the open line. After a CR it is the LF of a CRLF: some
    /// clients process a line only when they know which of the two it ends with.
    pub fn line_end(self) -> &'static str {
        match self {
            Self::Start | Self::LineEnd { .. } => "",
            Self::ByteOrderMark(_) | Self::InLine | Self::AfterCr { .. } => "\n",
        }
    }

    fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Start, first) if first == BYTE_ORDER_MARK[0] => Self::ByteOrderMark(1),
            (Self::ByteOrderMark(1), second) if second == BYTE_ORDER_MARK[1] => {
                Self::ByteOrderMark(2)
            }
            (Self::ByteOrderMark(2), third) if third == BYTE_ORDER_MARK[2] => {
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

    use super::LineState;

    #[test]
    fn the_last_bytes_determine_the_state() {
        let line_end = |is_empty| LineState::LineEnd { is_empty, is_crlf: false };
        let crlf = |is_empty| LineState::LineEnd { is_empty, is_crlf: true };
        let after_cr = |is_empty| LineState::AfterCr { is_empty, is_in_crlf: false };
        let in_crlf = LineState::AfterCr { is_empty: true, is_in_crlf: true };
        for (stream, state) in [
            (&b""[..], LineState::Start),
            (b"\xef", LineState::ByteOrderMark(1)),
            (b"\xef\xbb", LineState::ByteOrderMark(2)),
            (b"\xef\xbb\xbf", line_end(true)),
            (b"\xef\xbb\xbfdata", LineState::InLine),
            (b"\xef\xbbx", LineState::InLine),
            (b"\xef\xbb\n", line_end(false)),
            (b"\n", line_end(true)),
            (b"\r", after_cr(true)),
            (b"\r\n", crlf(true)),
            (b"data: x", LineState::InLine),
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
            assert_eq!(LineState::default().after(stream), state, "{shown:?}");
            let ended = state.after(state.line_end().as_bytes());
            assert!(
                matches!(ended, LineState::Start | LineState::LineEnd { .. }),
                "{shown:?}: {ended:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn splitting_the_bytes_does_not_change_the_state(
            stream in prop::collection::vec(prop::sample::select(&b"\n\r:x\xef\xbb\xbf"[..]), 0..12),
            cut in 0usize..12,
        ) {
            let (first, second) = stream.split_at(cut.min(stream.len()));
            let by_bytes = stream.iter().fold(LineState::Start, |state, &byte| state.after(&[byte]));
            prop_assert_eq!(LineState::Start.after(&stream), by_bytes);
            prop_assert_eq!(LineState::Start.after(first).after(second), by_bytes);
        }
    }
}
