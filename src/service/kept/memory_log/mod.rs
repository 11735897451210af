//! A log in the memory of this process.
//!
//! Readers may be on any thread, so each log has a lock. It is held for a copy of a few kilobytes at most.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::backend_ids::BackendIds;
use super::log::{KeptRead, LogEdge, LogExtent, LogPlace, LogReader, Position, StreamEnd};
use super::log_bytes::{LogBytes, SEGMENT};

/// A bounded log in memory.
#[derive(Debug)]
pub(in crate::service) struct MemoryLog {
    max_bytes: usize,
    max_events: usize,
    state: Mutex<LogState>,
    // Notified when a reader moves for which `trim` waits.
    moved: Arc<Notify>,
}

#[derive(Debug, Default)]
struct LogState {
    bytes: LogBytes,
    // The ends of the events that are kept, the oldest first.
    events: VecDeque<u64>,
    // The number of the last event before these.
    before: u64,
    // Whether the first byte is in the middle of an event.
    is_torn: bool,
    ids: BackendIds,
    ended: Option<StreamEnd>,
    readers: Slab<ReaderPlace>,
    // Whether the pump waits for one of the readers.
    is_waited_for: bool,
}

/// The place of a reader.
#[derive(Debug)]
struct ReaderPlace {
    offset: u64,
    // Since when it is at this place, with more to read.
    since: Instant,
    // `Some`: it has read everything, and waits.
    waker: Option<Waker>,
    // Whether it passes the log on to other gateways.
    is_second: bool,
}

impl MemoryLog {
    /// Creates an empty log with these bounds on bytes and events. `moved` is notified when a reader for which
    /// [`trim`](Self::trim) waits moves or is closed.
    pub(in crate::service) fn new(max_bytes: usize, max_events: usize, moved: Arc<Notify>) -> Self {
        Self { max_bytes, max_events, state: Mutex::default(), moved }
    }

    /// Appends bytes, in which `edges` are the ends of events. Call [`trim`](Self::trim) after it to bound the log.
    pub(in crate::service) fn append(&self, bytes: &[u8], edges: Vec<LogEdge>) {
        let mut state = self.lock();
        state.append(bytes, edges);
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Drops the oldest events beyond the limits, and beyond this many bytes of memory, but not the newest ones. The
    /// reader nearest to the end loses nothing, unless it has not moved for `patience`. If it would, nothing more may
    /// be appended until it moves, or until the time that is returned.
    pub(in crate::service) fn trim(&self, memory: usize, patience: Duration) -> Option<Instant> {
        let mut state = self.lock();
        // The newest bytes are kept for readers that keep up.
        let bounds = (self.max_bytes, self.max_events, memory.max(2 * SEGMENT));
        if !state.is_over(bounds) {
            return None;
        }
        let nearest = state.nearest_reader(Instant::now(), patience);
        while state.is_over(bounds) {
            if let Some((offset, until)) = nearest
                && offset < state.next_start(self.max_bytes)
            {
                state.is_waited_for = true;
                return Some(until);
            }
            state.drop_oldest(self.max_bytes);
        }
        None
    }

    /// Ends the log. Only the first end counts; returns whether this is the first.
    pub(in crate::service) fn end(&self, end: StreamEnd) -> bool {
        let mut state = self.lock();
        if state.ended.is_some() {
            return false;
        }
        state.ended = Some(end);
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Finds a position in the log.
    pub(in crate::service) fn locate(&self, position: &Position) -> LogPlace {
        self.lock().locate(position)
    }

    /// Where the log begins and ends.
    pub(in crate::service) fn extent(&self) -> LogExtent {
        let state = self.lock();
        let last = state.last();
        let LogState { before, is_torn, ended: end, .. } = *state;
        LogExtent {
            last,
            start: state.bytes.start(),
            stop: state.bytes.end(),
            before,
            is_torn,
            end,
        }
    }

    /// The memory that it takes, in bytes.
    pub(in crate::service) fn memory(&self) -> usize {
        self.lock().memory()
    }

    /// Opens a reader that begins at this offset.
    pub(in crate::service) fn open(&self, offset: u64) -> LogReader {
        let place = ReaderPlace { offset, since: Instant::now(), waker: None, is_second: false };
        LogReader { offset, place: self.lock().readers.insert(place) }
    }

    /// The next bytes for a reader, at most `most`. With `whole_events`, only complete events of a stream that is
    /// lost.
    pub(in crate::service) fn poll_read(
        &self,
        reader: &mut LogReader,
        cx: &Context<'_>,
        most: usize,
        whole_events: bool,
    ) -> KeptRead {
        let mut state = self.lock();
        let last_event = state.last_event_end();
        let is_cut = whole_events && state.ended == Some(StreamEnd::Lost);
        let end =
            if is_cut && reader.offset <= last_event { last_event } else { state.bytes.end() };
        if reader.offset < state.bytes.start() {
            return KeptRead::Behind;
        }
        if reader.offset < end {
            let most = most.min(usize::try_from(end - reader.offset).unwrap_or(usize::MAX));
            let bytes = state.bytes.copy(reader.offset, most);
            reader.offset += bytes.len() as u64;
            let place = &mut state.readers[reader.place];
            (place.offset, place.since) = (reader.offset, Instant::now());
            self.tell_moved(&mut state);
            return KeptRead::Bytes(bytes);
        }
        match state.ended {
            Some(end) => {
                let is_torn = state.is_torn && state.events.is_empty();
                KeptRead::End { end, is_in_event: is_torn || reader.offset > last_event }
            }
            None => {
                state.wait(reader.place, cx);
                KeptRead::Pending
            }
        }
    }

    /// Removes a reader.
    pub(in crate::service) fn close(&self, reader: &LogReader) {
        let mut state = self.lock();
        let place = state.readers.remove(reader.place);
        self.tell_moved(&mut state);
        drop((state, place));
    }

    /// Notifies the pump if it waits for a reader.
    fn tell_moved(&self, state: &mut LogState) {
        if std::mem::take(&mut state.is_waited_for) {
            self.moved.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogState {
    fn append(&mut self, bytes: &[u8], edges: Vec<LogEdge>) {
        let start = self.bytes.end();
        for edge in edges {
            match edge {
                LogEdge::Event { end, id } => {
                    self.push_event(start + end as u64);
                    if let Some(id) = id {
                        self.ids.insert(id, self.before + self.events.len() as u64);
                    }
                }
                LogEdge::Longer => {
                    if let Some(end) = self.events.back_mut() {
                        *end += 1;
                    }
                }
                LogEdge::Id(id) => self.ids.insert(id, self.last()),
            }
        }
        self.bytes.append(bytes);
    }

    /// Adds the end of an event in small steps: a queue that doubles would take memory that others could use.
    fn push_event(&mut self, end: u64) {
        if self.events.len() == self.events.capacity() {
            self.events.reserve_exact(64.max(self.events.len() / 4));
        }
        self.events.push_back(end);
    }

    /// Drops the oldest event; if there is none, the bytes of the incomplete event beyond `max_bytes`.
    fn drop_oldest(&mut self, max_bytes: usize) {
        match self.events.pop_front() {
            Some(end) => {
                // The incomplete event may begin after it.
                self.is_torn &= self.bytes.start() > end;
                self.bytes.drop_before(end);
                self.before += 1;
                self.ids.forget_until(self.before);
                if self.events.capacity() > 2 * self.events.len() + 64 {
                    self.events.shrink_to(self.events.len() + 64);
                }
            }
            None => {
                let start = self.next_start(max_bytes);
                self.is_torn |= start > self.bytes.start();
                self.bytes.drop_before(start);
            }
        }
    }

    fn last(&self) -> u64 {
        self.before + self.events.len() as u64
    }

    /// The end of the last complete event, or the start of the log.
    fn last_event_end(&self) -> u64 {
        self.events.back().copied().unwrap_or_else(|| self.bytes.start())
    }

    fn memory(&self) -> usize {
        let events = self.events.capacity() * size_of::<u64>();
        self.bytes.memory() + events + self.ids.memory()
    }

    fn locate(&self, position: &Position) -> LogPlace {
        let number = match position {
            Position::Start => 0,
            Position::After(number) => *number,
            Position::AfterOwn(id) => match self.ids.number(id) {
                Some(number) => number,
                None if self.ids.is_gone(id) => return LogPlace::Behind,
                None => return LogPlace::Unknown,
            },
        };
        if number > self.last() {
            return LogPlace::Unknown;
        }
        if number < self.before {
            return LogPlace::Behind;
        }
        let offset = match number - self.before {
            0 if self.is_torn => None,
            0 => Some(self.bytes.start()),
            nth => self.events.get(usize::try_from(nth - 1).unwrap_or(usize::MAX)).copied(),
        };
        if number == self.last() && self.ended.is_some() {
            return LogPlace::AllRead(offset.unwrap_or_else(|| self.bytes.end()));
        }
        match offset {
            Some(offset) if offset >= self.bytes.start() => LogPlace::At(offset),
            _ => LogPlace::Behind,
        }
    }

    /// Stores the waker of a reader that waits for more.
    fn wait(&mut self, place: usize, cx: &Context<'_>) {
        let waker = &mut self.readers[place].waker;
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Takes the wakers of the readers that have read everything.
    fn take_wakers(&mut self) -> Vec<Waker> {
        let mut now = None;
        let mut take = |place: &mut ReaderPlace| {
            let waker = place.waker.take()?;
            place.since = *now.get_or_insert_with(Instant::now);
            Some(waker)
        };
        self.readers.iter_mut().filter_map(|(_, place)| take(place)).collect()
    }

    /// Whether the log exceeds these bounds on bytes, events, and bytes of memory.
    fn is_over(&self, (bytes, events, memory): (usize, usize, usize)) -> bool {
        self.bytes.len() > bytes as u64
            || self.events.len() > events
            || (self.memory() > memory && self.events.len() > 1)
    }

    /// The offset of the nearest reader, and until when it counts. A reader that has more to read and has not moved
    /// for `patience` does not count.
    fn nearest_reader(&self, now: Instant, patience: Duration) -> Option<(u64, Instant)> {
        let has_first = self.readers.iter().any(|(_, place)| !place.is_second);
        let readers = self.readers.iter().filter(|(_, place)| !(has_first && place.is_second));
        let readers = readers.map(|(_, place)| match place.waker {
            // This reader waits for more.
            Some(_) => (place.offset, now + patience),
            None => (place.offset, place.since + patience),
        });
        readers.filter(|(_, until)| *until > now).max()
    }

    /// Where the log begins once one more event is dropped.
    fn next_start(&self, max_bytes: usize) -> u64 {
        let of_open_event = || self.bytes.end() - self.bytes.len().min(max_bytes as u64);
        self.events.front().copied().unwrap_or_else(of_open_event)
    }
}

mod parts;
#[cfg(test)]
mod tests;
