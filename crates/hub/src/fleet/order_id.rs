//! Names an order of messages.

/// An order of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(u32);

impl OrderId {
    /// The order of the pub/sub connection.
    pub const PLAIN: Self = Self(0);
    /// Of a sharded channel that was never confirmed.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The order of a node. Each number is used once.
    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }
}
