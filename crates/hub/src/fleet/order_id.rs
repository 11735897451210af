//! Which order of messages it is.

/// An order of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(u32);

impl OrderId {
    /// That of the pub/sub connection.
    pub const PLAIN: Self = Self(0);
    /// That of a sharded channel that was not confirmed yet.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// That of a node, by its number, which is never given again.
    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }
}
