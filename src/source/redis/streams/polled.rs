//! Streams of a Cluster without a blocking connection: they are polled for new entries.
//!
//! These are the streams of slots beyond the number of blocking connections, and those whose slot moves to another
//! node: a blocking connection would not be woken there. Pure: time is passed in.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ssegate_hub::ChannelName;
use tokio::time::Instant;

/// How often each stream is polled at most; less often if there are many.
const INTERVAL: Duration = Duration::from_millis(50);
/// Entries of one stream in one reply, at most.
const MAX_ENTRIES: usize = 512;
/// Polls per second, at most.
const MAX_PER_SECOND: u32 = 20_000;

/// The streams that are polled.
#[derive(Debug, Default)]
pub(super) struct PolledStreams {
    names: HashMap<ChannelName, PolledStream>,
    // Streams whose slots are moving, and until when they are polled for that.
    moving: HashMap<ChannelName, Instant>,
    next_number: u64,
    due: Option<Instant>,
    // Streams that had entries a moment ago, and when the first of them did: they are polled before the others.
    hurried: HashSet<ChannelName>,
    hurried_at: Option<Instant>,
}

#[derive(Debug)]
struct PolledStream {
    // A reply to a poll of an earlier assignment is of no use.
    number: u64,
    is_pending: bool,
    // The `COUNT` of the next poll.
    most: usize,
}

impl PolledStreams {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn has(&self, name: &ChannelName) -> bool {
        self.names.contains_key(name)
    }

    /// The names of all polled streams.
    pub(super) fn names(&self) -> impl Iterator<Item = ChannelName> {
        self.names.keys().cloned()
    }

    /// Records that the stream is to be polled until `until`, once it is read.
    pub(super) fn expect(&mut self, name: ChannelName, until: Instant) {
        self.moving.insert(name, until);
    }

    /// Whether it is to be polled, because its slot is moving.
    pub(super) fn is_expected(&self, name: &ChannelName) -> bool {
        self.moving.contains_key(name)
    }

    /// Polls a stream from now on.
    pub(super) fn add(&mut self, name: ChannelName) {
        self.next_number += 1;
        self.names.insert(
            name,
            PolledStream { number: self.next_number, is_pending: false, most: MAX_ENTRIES },
        );
        self.due.get_or_insert_with(Instant::now);
    }

    /// Polls the stream from its current position, if that has moved.
    pub(super) fn restart(&mut self, name: &ChannelName, has_moved: bool) {
        if has_moved {
            self.add(name.clone());
        }
    }

    pub(super) fn remove(&mut self, name: &ChannelName) {
        self.names.remove(name);
        self.hurried.remove(name);
        if self.names.is_empty() {
            self.due = None;
        }
    }

    /// When the next streams are to be polled; `None`: there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.hurried_at.filter(|_| self.due.is_some()).or(self.due)
    }

    /// Begins to poll the streams that are due and have no pending poll. Returns each with the number of its assignment
    /// and its `COUNT`.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<(ChannelName, u64, usize)> {
        let hurried = std::mem::take(&mut self.hurried);
        let begin = |name: &ChannelName, stream: &mut PolledStream| {
            let is_idle = !std::mem::replace(&mut stream.is_pending, true);
            is_idle.then(|| (name.clone(), stream.number, stream.most))
        };
        if self.hurried_at.take().is_some() && self.due.is_some_and(|due| due > now) {
            let hurried = hurried.into_iter();
            return hurried
                .filter_map(|name| {
                    self.names.get_mut(&name).and_then(|stream| begin(&name, stream))
                })
                .collect();
        }
        let count = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let interval = INTERVAL.max(Duration::from_secs(1) * count / MAX_PER_SECOND);
        self.due = (count > 0).then(|| now + interval);
        self.names.iter_mut().filter_map(|(name, stream)| begin(name, stream)).collect()
    }

    /// Records the reply to a poll of this assignment. Returns whether the assignment is still current.
    pub(super) fn end(&mut self, name: &ChannelName, number: u64) -> bool {
        let stream = self.names.get_mut(name).filter(|stream| stream.number == number);
        stream.is_some_and(|stream| {
            stream.is_pending = false;
            true
        })
    }

    /// Records that a poll returned entries: there may be more. After a reply that was too long the `COUNT` is lowered,
    /// since most of the reply was discarded.
    pub(super) fn hurry(&mut self, name: &ChannelName, is_truncated: bool, now: Instant) {
        if let Some(stream) = self.names.get_mut(name) {
            stream.most = match is_truncated {
                true => (stream.most / 4).max(1),
                false => (stream.most * 2).min(MAX_ENTRIES),
            };
            self.hurried.insert(name.clone());
            self.hurried_at.get_or_insert(now);
        }
    }

    /// Removes those whose slot was moving for long enough.
    pub(super) fn take_settled(&mut self, now: Instant) -> Vec<ChannelName> {
        let settled: Vec<_> =
            self.moving.extract_if(|_, until| *until <= now).map(|(name, _)| name).collect();
        let read = settled.into_iter().filter(|name| {
            self.hurried.remove(name);
            self.names.remove(name).is_some()
        });
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ssegate_hub::ChannelName;
    use tokio::time::Instant;

    use super::PolledStreams;

    #[test]
    fn streams_are_polled_in_turn_and_waited_for_once_their_slot_has_moved() {
        let (mut polled, now) = (PolledStreams::default(), Instant::now());
        let name = |text: &str| ChannelName::new(text).expect("a name");
        assert_eq!(polled.due(), None);
        polled.expect(name("a"), now + Duration::from_secs(2));
        assert!(polled.is_expected(&name("a")) && !polled.has(&name("a")));
        polled.add(name("a"));
        let asked = polled.begin(now);
        assert_eq!(asked.len(), 1);
        assert!(polled.begin(now).is_empty(), "the reply is owed");
        assert_eq!(polled.due(), Some(now + Duration::from_millis(50)));
        // It starts again elsewhere: what was asked for before is of no use.
        polled.restart(&name("a"), true);
        assert!(!polled.end(&name("a"), asked[0].1));
        let again = polled.begin(now);
        assert!(polled.end(&name("a"), again[0].1));
        assert!(polled.take_settled(now).is_empty());
        assert_eq!(polled.take_settled(now + Duration::from_secs(2)), [name("a")]);
        assert!(polled.is_empty() && !polled.is_expected(&name("a")));
        // One with entries is asked for at once, and the others are not.
        ["a", "b"].map(name).into_iter().for_each(|name| polled.add(name));
        let both = polled.begin(now);
        both.iter().for_each(|(name, number, _)| assert!(polled.end(name, *number)));
        polled.hurry(&name("b"), false, now);
        assert_eq!(polled.due(), Some(now));
        let hurried = polled.begin(now);
        assert_eq!(hurried.iter().map(|(name, ..)| name).collect::<Vec<_>>(), [&name("b")]);
        assert_eq!(polled.due(), Some(now + Duration::from_millis(50)));
        assert_eq!(polled.begin(now + Duration::from_millis(50)).len(), 1, "one is asked for");
        ["a", "b"].map(name).iter().for_each(|name| polled.remove(name));
        assert_eq!(polled.due(), None);
        // Many are asked for less often each.
        (0..40_000).for_each(|number| polled.add(name(&number.to_string())));
        assert_eq!(polled.begin(now).len(), 40_000);
        assert_eq!(polled.due(), Some(now + Duration::from_secs(2)));
    }
}
