//! The rules that keep a resumed stream whole. The simulation of the tests can switch each of them off.
//!
//! Outside tests every rule holds, and none of this costs anything.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FleetRule {
    /// A message has a name only if the mark came after the confirmation of its subscription.
    MarkAfterConfirmation,
    /// A gateway that cannot place an id exactly decides behind a fence.
    Fence,
    /// Positions are compared within one answer only.
    OrderInAnswer,
    /// An answer says nothing about messages from before the confirmation.
    NoHoleInAnswer,
    /// After a break, nothing has a name until the gaps were sent.
    GapsBeforeNames,
    /// After a break, answers say nothing about a channel until the gap was sent.
    GapsBeforeAnswers,
    /// A gap comes before what is replayed.
    GapFirst,
    /// A position without an event names the newest message of all channels.
    NewestOfAllChannels,
    /// At a takeover, messages that the new process received before the seam are dropped.
    NothingBeforeSeam,
    /// The past of the earlier process counts up to the seam, and no further.
    PastUpToSeam,
    /// After a restart, a gap stands behind the past.
    GapAfterRestart,
    /// Tags have 32 bits. Without this rule they collide, which causes gaps and nothing worse.
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
    /// The rules that a test has switched off.
    pub(crate) static WITHOUT: std::cell::RefCell<Vec<FleetRule>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
impl FleetRule {
    pub(crate) fn holds(self) -> bool {
        WITHOUT.with_borrow(|without| !without.contains(&self))
    }
}
