//! What one client of a storm has seen, and whether it may have seen that.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;

use super::sea::{Sea, Source};
use crate::support::Event;

/// What one client has seen.
pub(super) struct Log {
    channels: BTreeMap<usize, Seen>,
    pub(super) last_id: Option<String>,
    /// Whether it was ready before the first message, so that it must have all of them.
    was_early: bool,
    pub(super) seen: usize,
    pub(super) gaps: usize,
    /// What is missing behind gaps: the channel, and its numbers.
    pub(super) missing: Vec<(usize, Range<usize>)>,
    /// The newest gap came with the id that the client had before, on these channels. Who hangs up before it has
    /// another one is told once more.
    unsettled: Option<Vec<usize>>,
}

/// What one client has seen of one channel.
#[derive(Default)]
struct Seen {
    /// The number that comes next; `None` before the first. Where all messages are alike: how many came.
    next: Option<usize>,
    /// The last number with which it may begin.
    soonest: Option<usize>,
    /// Something may be missing before the next message.
    is_told: bool,
    /// Something may be missing at all.
    was_told: bool,
    /// How many gaps named it.
    gaps: usize,
    /// What other gateways call the messages that are alike: hashes, since there are many.
    names: HashSet<u64>,
}

/// The part of an id that other gateways know, too.
pub(super) fn name(id: &str) -> Option<&str> {
    id.splitn(3, '-').nth(2)
}

impl Log {
    /// A client that is ready before the first message, or one that comes later.
    pub(super) fn new(channels: &[usize], is_early: bool) -> Self {
        let seen = || Seen { next: is_early.then_some(0), ..Seen::default() };
        Self {
            channels: channels.iter().map(|&channel| (channel, seen())).collect(),
            last_id: None,
            was_early: is_early,
            seen: 0,
            gaps: 0,
            missing: Vec::new(),
            unsettled: None,
        }
    }

    /// What it asks for.
    pub(super) fn target(&self) -> String {
        let names: Vec<_> = self.channels.keys().map(|c| format!("channel=c{c}")).collect();
        format!("/events?{}", names.join("&"))
    }

    /// The client has this id after a block that has been entered.
    pub(super) fn stand_at(&mut self, id: &str) {
        if self.last_id.as_deref() != Some(id) {
            self.last_id = Some(id.to_owned());
            self.unsettled = None;
        }
    }

    /// What is published from now on arrives.
    pub(super) fn ready(&mut self, sea: &Sea) {
        self.unsettled = None;
        for (&channel, seen) in &mut self.channels {
            seen.soonest.get_or_insert_with(|| sea.next(channel));
        }
    }

    /// Whether it has been ready.
    pub(super) fn was_ready(&self) -> bool {
        self.channels.values().all(|seen| seen.soonest.is_some())
    }

    /// Whether it could come to another gateway.
    pub(super) fn can_move(&self) -> bool {
        self.last_id.as_deref().and_then(name).is_some()
    }

    /// It has hung up, or was cut off.
    pub(super) fn leave(&mut self) {
        if let Some(channels) = self.unsettled.take() {
            self.gaps -= 1;
            for channel in channels {
                let seen = self.channels.get_mut(&channel).expect("it was told of it");
                (seen.is_told, seen.gaps) = (false, seen.gaps - 1);
            }
        }
    }

    /// An event has come, where so many gaps may be told.
    pub(super) fn enter(&mut self, sea: &Sea, event: &Event, outages: usize) {
        if event.name == "gap" {
            return self.enter_gap(sea, event, outages);
        }
        self.unsettled = None;
        let (channel, rest) = event.data.split_once(':').unwrap();
        let channel: usize = channel.parse().unwrap();
        let what = rest.split_once(':').map_or(rest, |(what, _)| what);
        assert_eq!(event.data, sea.filled(format!("{channel}:{what}")), "it is whole");
        let seen = self.channels.get_mut(&channel).expect("it was asked for");
        match what {
            "same" => seen.enter_copy(sea.next(channel), event),
            "end" => seen.enter_end(sea.next(channel), event),
            number => {
                let missing =
                    seen.enter_number(number.parse().unwrap(), &event.data, &self.last_id);
                self.missing.extend(missing.map(|numbers| (channel, numbers)));
            }
        }
        self.seen += 1;
    }

    fn enter_gap(&mut self, sea: &Sea, event: &Event, outages: usize) {
        let data = &event.data;
        let is_named = |channel: &usize| data.contains(&format!("\"c{channel}\""));
        // Who left before all its channels were subscribed to has an id of those that were.
        let was_never_ready = !self.was_early && data.contains("expired") && !self.was_ready();
        if !was_never_ready {
            // Whoever comes from another gateway has an id of a time that this one does not know.
            let reasons: &[_] = match sea.source {
                Source::Recorded => &["unrecorded"],
                _ if sea.fleet.is_some() => &["redis_away", "unknown_id"],
                _ => &["redis_away"],
            };
            let is_known = reasons.iter().any(|reason| data.contains(reason));
            let is_due = match sea.source {
                // Each channel has a log of its own, in which the gap has its place.
                Source::Recorded => {
                    let mut told = self.channels.iter().filter(|(channel, _)| is_named(channel));
                    told.all(|(_, seen)| outages > seen.gaps)
                }
                _ => outages > self.gaps,
            };
            assert!(is_known && is_due, "{data} after {} gaps, last {:?}", self.gaps, self.last_id);
            self.gaps += 1;
        }
        let told: Vec<usize> = (self.channels.iter_mut())
            .filter(|(channel, _)| is_named(channel))
            .map(|(&channel, seen)| {
                (seen.is_told, seen.was_told) = (true, true);
                seen.gaps += 1;
                channel
            })
            .collect();
        let is_unsettled = !was_never_ready && self.last_id.as_ref() == Some(&event.id);
        self.unsettled = is_unsettled.then_some(told);
    }

    /// How many gaps each of its channels has.
    pub(super) fn gaps_of_channels(&self) -> Vec<usize> {
        self.channels.values().map(|seen| seen.gaps).collect()
    }

    /// Up to which number it has seen all its channels.
    pub(super) fn passed(&self) -> usize {
        self.channels.values().map(|seen| seen.next.unwrap_or(0)).min().unwrap_or(0)
    }

    /// Whether it has everything, and nothing more comes.
    pub(super) fn is_complete(&self, sea: &Sea) -> bool {
        sea.is_calm()
            && self.channels.iter().all(|(&channel, seen)| seen.next == Some(sea.next(channel)))
    }

    /// What it waits for.
    pub(super) fn waits_for(&self) -> String {
        let next: Vec<_> =
            self.channels.iter().map(|(channel, seen)| (channel, seen.next)).collect();
        format!("(channel, number) {next:?} after {:?}", self.last_id)
    }
}

impl Seen {
    /// Returns what is missing behind a gap.
    fn enter_number(
        &mut self,
        number: usize,
        data: &str,
        last_id: &Option<String>,
    ) -> Option<Range<usize>> {
        let was_told = std::mem::take(&mut self.is_told);
        match self.next {
            Some(expected) if was_told => assert!(number >= expected, "{data} is repeated"),
            Some(expected) => assert_eq!(number, expected, "{data}, after {last_id:?}"),
            None => {
                let is_in_time = self.soonest.is_none_or(|soonest| number <= soonest);
                assert!(was_told || is_in_time, "{data} came first");
            }
        }
        let before = self.next.replace(number + 1);
        before.filter(|expected| *expected < number).map(|expected| expected..number)
    }

    /// One of many that are alike: no more of them may come than were published, and none twice.
    fn enter_copy(&mut self, published: usize, event: &Event) {
        self.is_told = false;
        let copies = self.next.expect("who comes later has no such channel") + 1;
        assert!(copies <= published, "{copies} copies of {published}: {}", event.id);
        self.next = Some(copies);
        let mut hasher = DefaultHasher::new();
        let Some(name) = name(&event.id) else { return };
        name.hash(&mut hasher);
        assert!(self.names.insert(hasher.finish()), "{} came twice", event.id);
    }

    /// The last of them: as many have come as were published.
    fn enter_end(&mut self, published: usize, event: &Event) {
        let copies = self.next.expect("who comes later has no such channel") + 1;
        let is_right = copies == published || self.was_told && copies < published;
        assert!(is_right, "{copies} messages of {published}: {}", event.id);
        self.next = Some(published);
    }
}
