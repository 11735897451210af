//! The rules that keep a log whole, each of which the model check can take away.
//!
//! In a gateway every rule holds, and none of this costs anything.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordRule {
    /// A request is appended only if the log reaches up to where the gateway has received everything since.
    ReachesSince,
    /// Nothing is appended at or before the newest id of the log.
    NotBehindTop,
    /// A log is declared whole up to a mark only under the rule for messages.
    SealReachesSince,
    /// A message is kept until the log was seen to have it.
    KeptUntilSeen,
    /// After a lost connection nothing has a name until a mark that was published after it.
    NoNameOverHole,
    /// What follows a hole does not count as complete since before it.
    HoleEndsSince,
    /// A log that is ahead of all marks received is of another order of marks, unless its mark still comes.
    OtherTimeline,
}

#[cfg(not(feature = "mutations"))]
impl RecordRule {
    /// Whether the rule holds.
    #[inline]
    pub const fn holds(self) -> bool {
        true
    }
}

#[cfg(feature = "mutations")]
static WITHOUT: std::sync::Mutex<Option<RecordRule>> = std::sync::Mutex::new(None);

/// Takes one rule away, or none, in the whole process.
#[cfg(feature = "mutations")]
pub fn without(rule: Option<RecordRule>) {
    *WITHOUT.lock().expect("nothing panics while it holds the lock") = rule;
}

#[cfg(feature = "mutations")]
impl RecordRule {
    /// Whether the rule holds.
    pub fn holds(self) -> bool {
        *WITHOUT.lock().expect("nothing panics while it holds the lock") != Some(self)
    }
}
