//! Streams that go on at another server with less, or otherwise, against an oracle that knows all of them.

use std::collections::{HashMap, HashSet};

use fastrand::Rng;
use ssegate_hub::EntryId;
use ssegate_hub::GapReason;

use super::model_stream::ModelStream;
use super::progress::{Comparison, StreamProgress};
use super::recent_entries::MAX_RECENT;

/// What is done to the streams of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wear {
    None,
    /// Entries that were read are trimmed.
    Trimmed,
    /// Entries are deleted here and there.
    Deleted,
    /// The servers are older than Redis 7.
    Old,
}

struct StreamRun {
    rng: Rng,
    wear: Wear,
    clock: u64,
    contents: u32,
    master: ModelStream,
    // The master as it was: a replica that lags.
    replicas: Vec<ModelStream>,
    progress: StreamProgress,
    // What was delivered and is not known to be lost.
    delivered: HashSet<(EntryId, u32)>,
}

impl StreamRun {
    fn new(seed: u64, wear: Wear) -> Self {
        let mut master = ModelStream { is_old: wear == Wear::Old, ..ModelStream::default() };
        // Such a Redis does not say whether anything was trimmed before the first entry.
        let first = (wear == Wear::Old).then_some((EntryId { milliseconds: 1, sequence: 0 }, 1));
        first.iter().for_each(|(id, contents)| master.add(*id, *contents));
        let mut run = Self {
            rng: Rng::with_seed(seed),
            wear,
            clock: 1000,
            contents: 1,
            replicas: vec![master.clone()],
            master,
            progress: StreamProgress::default(),
            delivered: first.into_iter().collect(),
        };
        let starts = run.master.connect(&mut run.progress);
        assert_eq!(starts, Comparison::Starts(run.master.last));
        run
    }

    fn add(&mut self) {
        let most = if self.rng.u8(..8) == 0 { 150 } else { 12 };
        for _ in 0..self.rng.usize(..most) {
            self.clock += self.rng.u64(..3);
            let last = self.master.last;
            let same = EntryId { sequence: last.sequence + 1, ..last };
            let id = EntryId { milliseconds: self.clock, sequence: 0 }.max(same);
            self.contents += 1;
            self.master.add(id, self.contents);
        }
    }

    fn read(&mut self, count: usize) -> Result<(), String> {
        for (id, contents, comparison) in self.master.read(&mut self.progress, count) {
            if !self.delivered.insert((id, contents)) {
                return Err(format!("{id} came twice"));
            }
            if !self.is_fine(comparison) {
                return Err(format!("{comparison:?} at {id}, where nothing is missing"));
            }
        }
        Ok(())
    }

    /// Everything that is there was delivered, if it was not before the start.
    fn check(&mut self) -> Result<(), String> {
        let missing = self.master.entries.iter().find(|entry| !self.delivered.contains(entry));
        match (missing, self.master.check(&mut self.progress)) {
            (Some(missing), _) => Err(format!("{missing:?} never came")),
            (None, comparison) if self.is_fine(comparison) => Ok(()),
            (None, comparison) => Err(format!("{comparison:?}, where nothing is missing")),
        }
    }

    /// Where nothing is missing. Entries that were deleted may count as trimmed.
    fn is_fine(&self, comparison: Comparison) -> bool {
        match comparison {
            Comparison::Missing(GapReason::Trimmed, _) => self.wear == Wear::Deleted,
            comparison => comparison == Comparison::Same,
        }
    }

    fn wear(&mut self) {
        match self.wear {
            Wear::Trimmed => {
                let last = self.progress.last.unwrap_or_default();
                let read = self.master.entries.iter().filter(|(id, _)| *id <= last).count();
                let all = self.master.entries.len();
                self.master.trim(all - self.rng.usize(..=read).saturating_sub(20));
            }
            Wear::Deleted if !self.master.entries.is_empty() => {
                let at = self.rng.usize(..self.master.entries.len());
                let (id, _) = self.master.entries[at];
                if Some(id) <= self.progress.last {
                    self.master.delete(id);
                }
            }
            _ => {}
        }
    }

    /// A replica becomes the master, with what writers have added there already.
    fn fail_over(&mut self) -> Result<(), String> {
        let at = self.rng.usize(..self.replicas.len());
        let replica = self.replicas[at].clone();
        self.replicas.clear();
        let (old_clock, old) = (self.clock, std::mem::replace(&mut self.master, replica));
        // Some of them while others still wrote to the old one: their ids may be the same.
        self.clock = self.master.last.milliseconds + self.rng.u64(..3);
        for _ in 0..self.rng.usize(..3) {
            self.add();
        }
        self.clock = self.clock.max(old_clock);
        let there: HashMap<_, _> = self.master.entries.iter().copied().collect();
        let first = self.master.entries.first().map_or(self.master.last, |(id, _)| *id);
        let was_there = old.entries.iter().filter(|entry| self.delivered.contains(entry));
        let lost: Vec<_> = was_there
            .filter(|(id, contents)| *id >= first && there.get(id) != Some(contents))
            .copied()
            .collect();
        let newest = lost.iter().map(|(id, _)| *id).max();
        let comparison = self.master.connect(&mut self.progress);
        for entry in &lost {
            self.delivered.remove(entry);
        }
        match comparison {
            Comparison::Missing(GapReason::RolledBack | GapReason::Reset, _)
                if !lost.is_empty() => {}
            comparison if lost.is_empty() && self.is_fine(comparison) => {}
            // Whether they were lost or deleted cannot be known.
            comparison if self.wear == Wear::Deleted && self.is_fine(comparison) => {}
            comparison => return Err(format!("{comparison:?}, and {newest:?} is lost")),
        }
        if lost.len() > MAX_RECENT {
            // What is kept may come again.
            let last = self.progress.last.unwrap_or_default();
            self.delivered.retain(|(id, _)| *id <= last);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.u8(..12) {
            0..4 => self.add(),
            4..7 => {
                let count = self.rng.usize(1..40);
                self.read(count)?;
            }
            7 | 8 => {
                self.read(usize::MAX)?;
                self.check()?;
            }
            9 => self.replicas.push(self.master.clone()),
            10 => self.wear(),
            _ if !self.replicas.is_empty() => self.fail_over()?,
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn whatever_a_failover_loses_is_told_and_nothing_comes_twice() {
    for wear in [Wear::None, Wear::Trimmed, Wear::Deleted, Wear::Old] {
        for seed in 0..200 {
            let mut run = StreamRun::new(seed, wear);
            let mut steps = (0..120).map(|_| run.step());
            if let Some(Err(error)) = steps.find(Result::is_err) {
                panic!("{wear:?}, seed {seed}: {error}");
            }
            let end = run.read(usize::MAX).and_then(|()| run.check());
            end.unwrap_or_else(|error| panic!("{wear:?}, seed {seed}, at the end: {error}"));
        }
    }
}
