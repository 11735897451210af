//! Which gateways record, and which of them writes a channel at once. Pure, but for the clock.
//!
//! A wrong guess costs a request or a short delay. Nothing is lost, since the others append what is still missing.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::time::Instant;

/// A gateway counts as gone after this silence, where each publishes a mark every two seconds.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(7);

/// The gateways that record at one server.
#[derive(Debug)]
pub(super) struct RecordMembers {
    own: String,
    gone_after: Duration,
    others: HashMap<String, OtherRecorder>,
}

/// What is known of another gateway.
#[derive(Debug)]
struct OtherRecorder {
    heard: Instant,
    // It has appended everything that it received before this mark; `None`: unknown.
    appended_before: Option<u64>,
}

impl RecordMembers {
    /// Forgets other gateways after `gone_after` without a mark from them.
    pub(super) fn new(own: String, gone_after: Duration) -> Self {
        Self { own, gone_after, others: HashMap::new() }
    }

    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// Records a mark of this gateway, and up to where that gateway has appended everything that it received. Returns
    /// whether the gateway was unknown.
    pub(super) fn note(
        &mut self,
        member: &str,
        appended_before: Option<u64>,
        heard: Instant,
    ) -> bool {
        if member == self.own {
            return false;
        }
        self.others.insert(member.to_owned(), OtherRecorder { heard, appended_before }).is_none()
    }

    /// Forgets gateways that have been silent for too long.
    pub(super) fn forget_gone(&mut self, now: Instant) {
        let gone_after = self.gone_after;
        self.others.retain(|_, other| now.saturating_duration_since(other.heard) < gone_after);
    }

    /// Whether there are others.
    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether one of them may have messages from before this mark that it has not appended.
    pub(super) fn may_have_before(&self, mark: u64) -> bool {
        let mut others = self.others.values();
        others.any(|other| other.appended_before.is_none_or(|appended| appended < mark))
    }

    /// Whether this gateway writes the channel at once: of all gateways it has the highest hash with the channel
    /// (rendezvous hashing), so that one that leaves changes nothing for the channels of the others.
    pub(super) fn is_first(&self, channel: &str) -> bool {
        let own = weight(&self.own, channel);
        self.others.keys().all(|other| (weight(other, channel), &**other) < (own, &*self.own))
    }
}

fn weight(member: &str, channel: &str) -> u64 {
    // A fixed key: all gateways have to get the same hash.
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(member.as_bytes());
    hasher.write_u8(0);
    hasher.write(channel.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{GONE_AFTER, RecordMembers};

    #[test]
    fn each_channel_has_one_first_writer_and_keeps_it_when_another_one_leaves() {
        let (now, names) = (Instant::now(), ["a", "b", "c"]);
        let members = |own: &str| {
            let mut members = RecordMembers::new(own.to_owned(), GONE_AFTER);
            for name in names {
                members.note(name, None, now);
            }
            members
        };
        let mut all = names.map(members);
        let mut counts = [0; 3];
        for channel in 0..300 {
            let channel = format!("channel{channel}");
            let first: Vec<usize> =
                (0..3).filter(|&member| all[member].is_first(&channel)).collect();
            assert_eq!(first.len(), 1, "{channel}");
            counts[first[0]] += 1;
        }
        assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
        let later = now + GONE_AFTER;
        let [one, two, _] = &mut all;
        let kept = |one: &RecordMembers| {
            (0..300).filter(|channel| one.is_first(&format!("channel{channel}"))).count()
        };
        let before = kept(one);
        for member in [&mut *one, two] {
            member.note("a", None, later - Duration::from_secs(1));
            member.note("b", None, later - Duration::from_secs(1));
            member.forget_gone(later);
        }
        assert!(one.has_others() && kept(one) >= before);
        assert_eq!(kept(one) + kept(two), 300);
    }

    #[test]
    fn who_has_appended_all_from_before_a_mark_has_nothing_to_add_there() {
        let now = Instant::now();
        let mut members = RecordMembers::new("a".to_owned(), GONE_AFTER);
        assert!(!members.may_have_before(100), "there are no others");
        members.note("b", Some(100), now);
        assert!(!members.may_have_before(100) && members.may_have_before(101));
        members.note("c", None, now);
        assert!(members.may_have_before(100), "it does not say so");
        members.note("c", Some(200), now);
        assert!(!members.may_have_before(100));
    }
}
