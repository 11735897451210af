//! The rules that keep a resumed stream whole, each of which the simulation of the tests can take away.
//!
//! Outside tests every rule holds, and none of this costs anything.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FleetRule {
    /// A message has a name only if the mark came after the confirmation of its subscription.
    MarkAfterConfirmation,
    /// Who cannot place an id exactly decides behind a fence.
    Fence,
    /// Positions are compared within one answer only.
    OrderInAnswer,
    /// An answer says nothing of what came before the confirmation.
    NoHoleInAnswer,
    /// After a break, nothing has a name until the gaps were sent.
    GapsBeforeNames,
    /// After a break, nothing is claimed until the gaps were sent.
    GapsBeforeAnswers,
    /// A gap comes before what is replayed.
    GapFirst,
    /// A position without an event names the newest message of all channels.
    NewestOfAllChannels,
    /// At a takeover, what was heard before the mark where the runs meet is dropped.
    NothingBeforeSeam,
    /// The past of the earlier process counts up to that mark, and no further.
    PastUpToSeam,
    /// After a restart, a gap stands behind the past.
    GapAfterRestart,
    /// Tags have 32 bits: without it they collide, which costs gaps and nothing else.
    WideTags,
}

#[cfg(not(test))]
impl FleetRule {
    /// Whether the rule holds.
    #[inline]
    pub(crate) const fn holds(self) -> bool {
        true
    }
}

#[cfg(test)]
thread_local! {
    /// The rule that a test has taken away.
    pub(crate) static WITHOUT: std::cell::RefCell<Vec<FleetRule>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
impl FleetRule {
    pub(crate) fn holds(self) -> bool {
        WITHOUT.with_borrow(|without| !without.contains(&self))
    }
}
