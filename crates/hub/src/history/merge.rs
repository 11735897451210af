//! Several histories, merged into one order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use super::History;
use super::record::HistoryRecord;
use crate::EntryId;
use crate::subject::ChannelIndex;

/// The history of a channel after a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistorySlice<'a> {
    pub(crate) channel: ChannelIndex,
    pub(crate) history: &'a History,
    pub(crate) after: u64,
}

impl HistorySlice<'_> {
    /// Whether records after the number are missing.
    pub(super) fn is_incomplete(&self) -> bool {
        self.history.complete_after() > self.after
    }

    /// The number after which nothing is missing, for a client that was sent a gap for what is missing before.
    pub(crate) fn complete_after(&self) -> u64 {
        self.after.max(self.history.complete_after())
    }
}

/// A record of one of several histories.
#[derive(Debug)]
pub(crate) struct MergedRecord<'a> {
    /// The slice that it is from.
    pub(crate) slice: usize,
    pub(crate) record: &'a HistoryRecord,
    /// Where the channel is a log.
    pub(crate) entry: Option<EntryId>,
}

/// The records of several histories in the order of their numbers.
pub(crate) fn merge<'a>(
    slices: &[HistorySlice<'a>],
) -> impl Iterator<Item = MergedRecord<'a>> + use<'a> {
    let after = |slice: &HistorySlice<'a>| slice.history.after(slice.after).peekable();
    let slices: Vec<_> = slices.iter().map(after).collect();
    let mut merge = Merge { next: BinaryHeap::with_capacity(slices.len()), slices };
    for slice in 0..merge.slices.len() {
        merge.queue(slice);
    }
    merge
}

struct Merge<I: Iterator> {
    slices: Vec<Peekable<I>>,
    // The number of the next record of each slice.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a, I: Iterator<Item = (&'a HistoryRecord, Option<EntryId>)>> Merge<I> {
    fn queue(&mut self, slice: usize) {
        if let Some((record, _)) = self.slices[slice].peek() {
            self.next.push(Reverse((record.number, slice)));
        }
    }
}

impl<'a, I: Iterator<Item = (&'a HistoryRecord, Option<EntryId>)>> Iterator for Merge<I> {
    type Item = MergedRecord<'a>;

    fn next(&mut self) -> Option<MergedRecord<'a>> {
        let Reverse((_, slice)) = self.next.pop()?;
        let (record, entry) = self.slices[slice].next().expect("it was peeked at");
        self.queue(slice);
        Some(MergedRecord { slice, record, entry })
    }
}
