//! Limits on what one value may hold. Does not know what the value is for.

/// The limits of one value, which bound the memory that a peer can make the decoder use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest string that is kept, in bytes. A longer one is discarded while it is read, and
    /// becomes [`Value::TooLarge`](super::Value::TooLarge).
    pub max_bulk_bytes: usize,
    /// Elements of one value, over all levels. More are an error.
    pub max_elements: usize,
    /// Nesting levels of aggregates. More are an error.
    pub max_depth: usize,
    /// The longest line, in bytes: a simple string, an error, an inline command. A longer one is an
    /// error. Redis has the same limit of 64 KiB.
    pub max_line_bytes: usize,
}

impl Limits {
    /// Bytes that the strings of one value may have in addition to one of `max_bulk_bytes`: a
    /// channel name, a script, lines.
    const BESIDE_ONE_BULK: usize = 1 << 20;

    /// The default limits, with strings of at most `max_bulk_bytes`.
    pub fn with_max_bulk(max_bulk_bytes: usize) -> Self {
        Self { max_bulk_bytes, ..Self::default() }
    }

    /// Bytes that the strings of one value may have together; a string that does not fit is
    /// skipped.
    pub(super) fn max_value_bytes(&self) -> usize {
        self.max_bulk_bytes.saturating_add(Self::BESIDE_ONE_BULK)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bulk_bytes: 16 << 20,
            max_elements: 64 << 10,
            max_depth: 8,
            max_line_bytes: 64 << 10,
        }
    }
}
