//! A log in the memory of this process.
//!
//! StreamReaders are on any thread, so there is a lock for each log; it is held for a copy of a few kilobytes at most.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use slab::Slab;

use super::backend_ids::BackendIds;
use super::log::{KeptLog, KeptRead, LogEdge, LogExtent, LogPlace, LogReader, Position, StreamEnd};
use super::log_bytes::{LogBytes, SEGMENT};

/// A bounded log in memory.
#[derive(Debug)]
pub(in crate::service) struct MemoryLog {
    max_bytes: usize,
    max_events: usize,
    state: Mutex<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    bytes: LogBytes,
    // The ends of the events that are there, the oldest first.
    events: VecDeque<u64>,
    // The number of the event before them.
    before: u64,
    // The first byte is in the middle of an event.
    is_torn: bool,
    ids: BackendIds,
    ended: Option<StreamEnd>,
    readers: Slab<Option<Waker>>,
}

impl MemoryLog {
    /// An empty log, of at most so many bytes and events.
    pub(in crate::service) fn new(max_bytes: usize, max_events: usize) -> Self {
        Self { max_bytes, max_events, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptLog for MemoryLog {
    fn append(&self, bytes: &[u8], edges: Vec<LogEdge>) {
        let mut state = self.lock();
        state.append(bytes, edges);
        while state.bytes.len() > self.max_bytes as u64 || state.events.len() > self.max_events {
            state.drop_oldest(self.max_bytes);
        }
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn trim(&self, memory: usize) {
        let mut state = self.lock();
        // What came last stays for those who read along.
        let memory = memory.max(2 * SEGMENT);
        while state.memory() > memory && state.events.len() > 1 {
            state.drop_oldest(self.max_bytes);
        }
    }

    fn end(&self, end: StreamEnd) -> bool {
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

    fn locate(&self, position: &Position) -> LogPlace {
        self.lock().locate(position)
    }

    fn extent(&self) -> LogExtent {
        let state = self.lock();
        let last = state.last();
        let LogState { before, is_torn, ended: end, .. } = *state;
        LogExtent { last, start: state.bytes.start(), before, is_torn, end }
    }

    fn memory(&self) -> usize {
        self.lock().memory()
    }

    fn open(&self, offset: u64) -> LogReader {
        LogReader { offset, place: self.lock().readers.insert(None) }
    }

    fn poll_read(
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
            return KeptRead::Bytes(bytes);
        }
        match state.ended {
            Some(end) => {
                let is_torn = state.is_torn && state.events.is_empty();
                KeptRead::End { end, is_in_event: is_torn || reader.offset > last_event }
            }
            None => {
                let waker = &mut state.readers[reader.place];
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                KeptRead::Pending
            }
        }
    }

    fn close(&self, reader: &LogReader) {
        drop(self.lock().readers.remove(reader.place));
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

    /// A queue that doubles would take what others could use.
    fn push_event(&mut self, end: u64) {
        if self.events.len() == self.events.capacity() {
            self.events.reserve_exact(64.max(self.events.len() / 4));
        }
        self.events.push_back(end);
    }

    /// Drops the oldest event; where there is none, what is over so many bytes of the one that is open.
    fn drop_oldest(&mut self, max_bytes: usize) {
        match self.events.pop_front() {
            Some(end) => {
                // The event that is open may begin behind it.
                self.is_torn &= self.bytes.start() > end;
                self.bytes.drop_before(end);
                self.before += 1;
                self.ids.forget_until(self.before);
                if self.events.capacity() > 2 * self.events.len() + 64 {
                    self.events.shrink_to(self.events.len() + 64);
                }
            }
            None => {
                let start = self.bytes.end() - self.bytes.len().min(max_bytes as u64);
                self.is_torn |= start > self.bytes.start();
                self.bytes.drop_before(start);
            }
        }
    }

    fn last(&self) -> u64 {
        self.before + self.events.len() as u64
    }

    /// The end of the last event that is complete, or where the log begins.
    fn last_event_end(&self) -> u64 {
        self.events.back().copied().unwrap_or(self.bytes.start())
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
            return LogPlace::AllRead(offset.unwrap_or(self.bytes.end()));
        }
        match offset {
            Some(offset) if offset >= self.bytes.start() => LogPlace::At(offset),
            _ => LogPlace::Behind,
        }
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::MemoryLog;
    use crate::service::kept::log::{
        KeptLog as _, KeptRead, LogEdge, LogPlace, LogReader, Position, StreamEnd,
    };

    fn event(log: &MemoryLog, text: &str, id: Option<&str>) {
        let id = id.map(|id| id.as_bytes().into());
        log.append(text.as_bytes(), vec![LogEdge::Event { end: text.len(), id }]);
    }

    /// All that is there for a reader, and what comes then.
    fn read(log: &MemoryLog, reader: &mut LogReader, whole_events: bool) -> (String, KeptRead) {
        let mut seen = Vec::new();
        loop {
            match log.poll_read(reader, &Context::from_waker(Waker::noop()), 5, whole_events) {
                KeptRead::Bytes(bytes) => seen.extend_from_slice(&bytes),
                other => return (String::from_utf8(seen).expect("text"), other),
            }
        }
    }

    #[test]
    fn a_reader_gets_what_follows_its_position() {
        let log = MemoryLog::new(1000, 1000);
        event(&log, "first;", None);
        event(&log, "second;", Some("b"));
        log.append(b"thi", Vec::new());
        for (position, expected) in [
            (Position::Start, "first;second;thi"),
            (Position::After(0), "first;second;thi"),
            (Position::After(1), "second;thi"),
            (Position::After(2), "thi"),
            (Position::AfterOwn(b"b".to_vec()), "thi"),
        ] {
            let LogPlace::At(offset) = log.locate(&position) else { panic!("{position:?}") };
            let (seen, then) = read(&log, &mut log.open(offset), false);
            assert_eq!(seen, expected, "{position:?}");
            assert!(matches!(then, KeptRead::Pending), "{then:?}");
        }
        assert_eq!(log.locate(&Position::After(3)), LogPlace::Unknown);
        assert_eq!(log.locate(&Position::AfterOwn(b"c".to_vec())), LogPlace::Unknown);
        log.append(b"rd;", vec![LogEdge::Event { end: 3, id: None }]);
        log.append(b"\n", vec![LogEdge::Longer]);
        assert!(log.end(StreamEnd::Complete) && !log.end(StreamEnd::Lost));
        assert_eq!(log.locate(&Position::After(3)), LogPlace::AllRead(20));
        assert_eq!(log.locate(&Position::After(2)), LogPlace::At(13));
        assert_eq!(log.extent().last, 3);
    }

    #[test]
    fn however_a_stream_ends_nothing_follows_its_last_event() {
        for end in [StreamEnd::Complete, StreamEnd::Cancelled, StreamEnd::Lost] {
            let (log, empty) = (MemoryLog::new(1000, 1000), MemoryLog::new(1000, 1000));
            event(&log, "first;", Some("a"));
            log.append(b"sec", Vec::new());
            assert_eq!(log.locate(&Position::After(1)), LogPlace::At(6));
            assert!(log.end(end) && empty.end(end));
            assert_eq!(log.locate(&Position::After(1)), LogPlace::AllRead(6), "{end:?}");
            assert_eq!(log.locate(&Position::AfterOwn(b"a".to_vec())), LogPlace::AllRead(6));
            assert_eq!(log.locate(&Position::Start), LogPlace::At(0));
            assert_eq!(empty.locate(&Position::Start), LogPlace::AllRead(0));
        }
    }

    #[test]
    fn the_oldest_events_go_first_and_who_needs_them_is_told() {
        let log = MemoryLog::new(20, 1000);
        let mut slow = log.open(0);
        event(&log, "first, ", Some("a"));
        event(&log, "second, ", Some("b"));
        event(&log, "third, ", Some("a"));
        assert_eq!(log.locate(&Position::Start), LogPlace::Behind);
        assert_eq!(log.locate(&Position::After(1)), LogPlace::At(7));
        // A client with this id may be behind the first, or behind the third.
        assert_eq!(log.locate(&Position::AfterOwn(b"a".to_vec())), LogPlace::At(7));
        assert!(matches!(read(&log, &mut slow, false).1, KeptRead::Behind));
        event(&log, "fourth, ", Some("a"));
        assert_eq!(log.locate(&Position::AfterOwn(b"a".to_vec())), LogPlace::Behind);
        assert_eq!(log.locate(&Position::AfterOwn(b"b".to_vec())), LogPlace::At(15));
        // One that is larger than all.
        log.append(&[b'x'; 50], Vec::new());
        assert_eq!(log.locate(&Position::After(4)), LogPlace::Behind);
        assert_eq!(log.extent().start, 60);
        let few = MemoryLog::new(1000, 2);
        (0..5).for_each(|_| event(&few, "event;", None));
        assert_eq!(few.locate(&Position::After(2)), LogPlace::Behind);
        assert_eq!(few.locate(&Position::After(3)), LogPlace::At(18));
    }

    #[test]
    fn of_a_stream_that_is_lost_only_whole_events_count() {
        let log = MemoryLog::new(1000, 1000);
        event(&log, "first;", None);
        log.append(b"sec", Vec::new());
        let (mut live, mut late) = (log.open(0), log.open(0));
        assert_eq!(read(&log, &mut live, true).0, "first;sec");
        log.end(StreamEnd::Lost);
        let end = |read| match read {
            KeptRead::End { end: StreamEnd::Lost, is_in_event } => is_in_event,
            other => panic!("{other:?}"),
        };
        assert!(end(read(&log, &mut live, true).1));
        let (seen, then) = read(&log, &mut late, true);
        assert_eq!(seen, "first;");
        assert!(!end(then));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let log = MemoryLog::new(64 << 10, 50_000);
        let text = "x".repeat(1000);
        for _ in 0..1000 {
            event(&log, &text, None);
        }
        let memory = log.memory();
        assert!((64 << 10..90 << 10).contains(&memory), "{memory}");
        log.trim(memory - (20 << 10));
        assert!(log.memory() <= memory - (20 << 10));
        assert!(log.memory() > memory - (40 << 10));
        log.trim(0);
        assert!(log.memory() <= 40 << 10, "{}", log.memory());
        assert_eq!(log.extent().last, 1000);
        assert_eq!(log.locate(&Position::After(1000)), LogPlace::At(1_000_000));
    }

    /// What is counted for events and for ids is given back with them.
    #[test]
    fn small_events_with_ids_do_not_use_up_what_later_ones_need() {
        let log = MemoryLog::new(4 << 20, 50_000);
        for number in 0..200_000 {
            event(&log, "data;", Some(&format!("{number}")));
            if number % 100 == 0 {
                log.trim(64 << 10);
            }
        }
        log.trim(64 << 10);
        assert!(log.memory() <= 64 << 10, "{}", log.memory());
        assert!(log.extent().before < 199_900, "{:?}", log.extent());
        let newest = Position::AfterOwn(b"199990".to_vec());
        assert!(matches!(log.locate(&newest), LogPlace::At(_)));
        let forgotten = Position::AfterOwn(b"199000".to_vec());
        assert_eq!(log.locate(&forgotten), LogPlace::Behind);
    }
}
