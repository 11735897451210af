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
    /// An answer is of use for channels that were confirmed before the question.
    ConfirmedBeforeQuestion,
    /// After a break, nothing has a name until the gaps were sent.
    GapsBeforeNames,
    /// After a break, nothing is claimed until the gaps were sent.
    GapsBeforeAnswers,
    /// A gap comes before what is replayed.
    GapFirst,
    /// A position without an event names the newest message of all channels.
    NewestOfAllChannels,
    /// Two subscriptions of one stream with one tag have no names.
    DistinctTags,
    /// Tags have 32 bits.
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
    /// All rules that a simulation can miss.
    pub(crate) const ALL: [Self; 11] = [
        Self::MarkAfterConfirmation,
        Self::Fence,
        Self::OrderInAnswer,
        Self::NoHoleInAnswer,
        Self::ConfirmedBeforeQuestion,
        Self::GapsBeforeNames,
        Self::GapsBeforeAnswers,
        Self::GapFirst,
        Self::NewestOfAllChannels,
        Self::DistinctTags,
        Self::WideTags,
    ];

    pub(crate) fn holds(self) -> bool {
        WITHOUT.with_borrow(|without| !without.contains(&self))
    }
}
