//! What one client of a storm has seen, and whether it may have seen that.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::sea::Sea;

/// What one client has seen.
pub(super) struct Log {
    pub(super) channels: Vec<usize>,
    /// The number that comes next on each of them; `None` before the first.
    pub(super) expected: HashMap<usize, Option<usize>>,
    /// The last number with which each may begin.
    soonest: HashMap<usize, usize>,
    /// Something may be missing on these.
    told: HashMap<usize, bool>,
    pub(super) last_id: Option<String>,
    pub(super) seen: usize,
    pub(super) gaps: usize,
}

impl Log {
    pub(super) fn new(channels: Vec<usize>) -> Self {
        let expected = channels.iter().map(|channel| (*channel, None)).collect();
        Self {
            channels,
            expected,
            soonest: HashMap::new(),
            told: HashMap::new(),
            last_id: None,
            seen: 0,
            gaps: 0,
        }
    }

    /// What is published from now on arrives.
    pub(super) fn ready(&mut self, sea: &Sea) {
        for &channel in &self.channels {
            self.soonest.entry(channel).or_insert_with(|| sea.next(channel));
        }
    }

    pub(super) fn enter(&mut self, name: &str, data: &str, outages: usize) {
        if name == "gap" {
            // Who left before all its channels were subscribed to has an id of those that were.
            let was_never_ready = data.contains("expired") && self.soonest.is_empty();
            if !was_never_ready {
                let is_due = data.contains("redis_away") && outages > self.gaps;
                assert!(is_due, "{data} after {} gaps, last {:?}", self.gaps, self.last_id);
                self.gaps += 1;
            }
            for &channel in &self.channels {
                if data.contains(&format!("\"c{channel}\"")) {
                    self.told.insert(channel, true);
                }
            }
            return;
        }
        let (channel, number) = data.split_once(':').unwrap();
        let (channel, number): (usize, usize) = (channel.parse().unwrap(), number.parse().unwrap());
        let expected = self.expected.get_mut(&channel).expect("it was asked for");
        let was_told = self.told.insert(channel, false).unwrap_or(false);
        match *expected {
            Some(expected) if was_told => assert!(number >= expected, "{data} is repeated"),
            Some(expected) => {
                assert_eq!(number, expected, "on channel {channel}, after {:?}", self.last_id)
            }
            None => {
                let soonest = self.soonest.get(&channel);
                assert!(
                    was_told || soonest.is_none_or(|soonest| number <= *soonest),
                    "{data} came first"
                );
            }
        }
        *expected = Some(number + 1);
        self.seen += 1;
    }

    /// Whether it has everything, and nothing more comes.
    pub(super) fn is_complete(&self, sea: &Sea) -> bool {
        sea.is_calm.load(Ordering::SeqCst)
            && self.expected.iter().all(|(&channel, next)| *next == Some(sea.next(channel)))
    }
}
