//! The rules that keep a log whole. The model check can switch off each of them.
//!
//! In a gateway every rule holds, and the checks cost nothing.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordRule {
    /// A request is appended only if the log reaches the id since which the gateway has received everything.
    ReachesSince,
    /// Nothing is appended at or before the newest id of the log.
    NotBehindTop,
    /// A log is sealed up to a mark under the same condition: see [`Self::ReachesSince`].
    SealReachesSince,
    /// A message is kept until the log was seen to have it.
    KeptUntilSeen,
    /// After a lost connection no message has a name until a mark comes that was published later.
    NoNameOverHole,
    /// Messages after a hole start a new run: the log is not complete across the hole.
    HoleEndsSince,
    /// A log that is ahead of all received marks belongs to another order of marks, unless its mark still arrives.
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

/// Switches off one rule, or none, in the whole process.
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
