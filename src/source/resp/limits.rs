//! What one value may hold. Knows not what is done with it.

/// The bounds of one value, so that a peer cannot make the reader keep more than was foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest string that is kept, in bytes; a longer one is skipped while it is read and
    /// becomes [`Value::TooLarge`](super::Value::TooLarge).
    pub max_bulk_bytes: usize,
    /// Elements of one value, over all its levels. More is an error.
    pub max_elements: usize,
    /// Arrays inside arrays. Deeper is an error.
    pub max_depth: usize,
    /// The longest line, in bytes: a simple string, an error, an inline command. A longer one is an
    /// error. 64 KiB in Redis too.
    pub max_line_bytes: usize,
}

impl Limits {
    /// What all strings of one value may hold beside one of `max_bulk_bytes`: a channel's name, a
    /// script, the lines. In bytes.
    const BESIDE_ONE_BULK: usize = 1 << 20;

    /// The bounds of whoever reads messages of at most `max_bulk_bytes`.
    pub fn with_max_bulk(max_bulk_bytes: usize) -> Self {
        Self { max_bulk_bytes, ..Self::default() }
    }

    /// What the strings of one value may hold together; one that no longer fits is skipped. In
    /// bytes.
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
