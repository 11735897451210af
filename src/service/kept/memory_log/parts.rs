//! A log in parts: those that a gateway passes on, and those that it takes from another gateway.

use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{LogState, MemoryLog, ReaderPlace};
use crate::service::kept::log::LogReader;
use crate::service::kept::log_part::{LogCursor, LogPart};

impl MemoryLog {
    /// Opens the reader that passes the log on to other gateways. The log waits for it only if there is no other
    /// reader.
    pub(in crate::service) fn open_second(&self) -> LogReader {
        let place = ReaderPlace { offset: 0, since: Instant::now(), waker: None, is_second: true };
        LogReader { offset: 0, place: self.lock().readers.insert(place) }
    }

    /// Ready once there are this many bytes for a reader, or the log has ended.
    pub(in crate::service) fn poll_more(
        &self,
        reader: &LogReader,
        cx: &Context<'_>,
        enough: u64,
    ) -> Poll<()> {
        let mut state = self.lock();
        if state.ended.is_some() || state.bytes.end().saturating_sub(reader.offset) >= enough {
            return Poll::Ready(());
        }
        state.wait(reader.place, cx);
        Poll::Pending
    }

    /// The part after the cursor, of at most this many bytes. If the bytes at the cursor are gone, it begins with
    /// the first that are kept.
    pub(in crate::service) fn part(&self, cursor: LogCursor, most: usize) -> LogPart {
        self.lock().part(cursor, most)
    }

    /// Moves a reader: it has passed on the bytes before this offset.
    pub(in crate::service) fn advance(&self, reader: &mut LogReader, offset: u64) {
        let mut state = self.lock();
        reader.offset = offset;
        let place = &mut state.readers[reader.place];
        (place.offset, place.since) = (offset, Instant::now());
        self.tell_moved(&mut state);
    }

    /// Takes a part of another gateway's log, as far as it is new. Returns whether bytes before it are missing:
    /// they are gone.
    pub(in crate::service) fn take_part(&self, part: &LogPart) -> bool {
        let mut state = self.lock();
        let is_missing = state.take_part(part);
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
        is_missing
    }

    /// Records that unknown ids of the backend may have been removed: an event that had one is gone.
    pub(in crate::service) fn forget_ids(&self) {
        self.lock().ids.forget_unknown();
    }

    /// Sets the number of the last event, for a log of which nothing else is known.
    pub(in crate::service) fn set_last(&self, last: u64) {
        self.lock().before = last;
    }
}

impl LogState {
    fn part(&self, cursor: LogCursor, most: usize) -> LogPart {
        let is_jump = cursor.offset < self.bytes.start();
        let offset = cursor.offset.max(self.bytes.start());
        let before = if is_jump { self.before } else { cursor.events.max(self.before) };
        let first = usize::try_from(before - self.before).unwrap_or(usize::MAX);
        let before_end = match first.checked_sub(1) {
            Some(at) => self.events.get(at).copied().unwrap_or(offset),
            None => self.bytes.start(),
        };
        let is_torn = if is_jump { self.is_torn } else { offset > before_end };
        let mut bytes = BytesMut::new();
        while bytes.len() < most && offset + (bytes.len() as u64) < self.bytes.end() {
            let copied = self.bytes.copy(offset + bytes.len() as u64, most - bytes.len());
            bytes.extend_from_slice(&copied);
        }
        let until = offset + bytes.len() as u64;
        let ends = self.events.range(first.min(self.events.len())..);
        let ends: Vec<u64> = ends.copied().take_while(|end| *end <= until).collect();
        let ids = self.ids.between(before, before + ends.len() as u64);
        LogPart { offset, before, before_end, is_torn, ends, ids, bytes: bytes.freeze() }
    }

    fn take_part(&mut self, part: &LogPart) -> bool {
        let is_missing = part.offset > self.bytes.end();
        if is_missing {
            self.begin_at(part);
        }
        if part.before == self.last()
            && let Some(end) = self.events.back_mut()
        {
            *end = part.before_end.max(*end);
        }
        for (number, end) in (part.before + 1..).zip(&part.ends) {
            if number > self.last() {
                self.push_event(*end);
            }
        }
        let known = usize::try_from(self.bytes.end() - part.offset).unwrap_or(usize::MAX);
        if let Some(new) = part.bytes.get(known..) {
            self.bytes.append(new);
        }
        for (number, id) in &part.ids {
            self.ids.insert(id.clone(), *number);
        }
        is_missing
    }

    /// Drops everything, and begins with this part: bytes before it are missing.
    fn begin_at(&mut self, part: &LogPart) {
        self.ids.forget_until(u64::MAX);
        self.events.clear();
        self.bytes.begin_at(part.offset);
        (self.before, self.is_torn) = (part.before, part.is_torn);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryLog;
    use crate::service::kept::log::{LogEdge, LogPlace, Position, StreamEnd};
    use crate::service::kept::log_part::{LogCursor, LogPart};

    fn log(max_bytes: usize) -> MemoryLog {
        MemoryLog::new(max_bytes, 1000, Arc::default())
    }

    fn event(log: &MemoryLog, text: &str, id: Option<&str>) {
        let id = id.map(|id| id.as_bytes().into());
        log.append(text.as_bytes(), vec![LogEdge::Event { end: text.len(), id }]);
    }

    fn all_of(log: &MemoryLog) -> LogPart {
        log.part(LogCursor::default(), usize::MAX)
    }

    /// Hands on what follows in parts of so many bytes, by the way that they take.
    fn hand_on(log: &MemoryLog, copy: &MemoryLog, cursor: &mut LogCursor, most: usize) -> bool {
        let mut is_missing = false;
        loop {
            let part = log.part(*cursor, most);
            *cursor = part.after();
            let sent = LogPart::parse(part.place().as_bytes(), part.bytes.clone());
            is_missing |= copy.take_part(&sent.expect("a part"));
            if part.bytes.is_empty() {
                return is_missing;
            }
        }
    }

    #[test]
    fn a_copy_is_the_same_in_whatever_parts_it_comes() {
        for most in [1, 2, 3, 7, 1000] {
            let (log, copy, mut cursor) = (log(1000), log(1000), LogCursor::default());
            event(&log, "first;", None);
            hand_on(&log, &copy, &mut cursor, most);
            event(&log, "second;", Some("b"));
            log.append(b"thi", Vec::new());
            hand_on(&log, &copy, &mut cursor, most);
            log.append(b"rd\r", vec![LogEdge::Event { end: 3, id: None }]);
            hand_on(&log, &copy, &mut cursor, most);
            // The LF of that CR, an id without data, and more.
            log.append(b"\n", vec![LogEdge::Longer]);
            log.append(b"id", vec![LogEdge::Id(b"c".as_slice().into())]);
            event(&log, "fourth;", Some("d"));
            hand_on(&log, &copy, &mut cursor, most);
            assert_eq!(all_of(&copy), all_of(&log), "{most}");
            for position in [
                Position::After(3),
                Position::After(4),
                Position::AfterOwn(b"b".to_vec()),
                Position::AfterOwn(b"c".to_vec()),
                Position::AfterOwn(b"d".to_vec()),
                Position::AfterOwn(b"x".to_vec()),
            ] {
                assert_eq!(copy.locate(&position), log.locate(&position), "{most} {position:?}");
            }
        }
    }

    #[test]
    fn what_is_known_is_not_taken_again() {
        let (log, copy) = (log(1000), log(1000));
        for text in ["one;", "two;", "three;"] {
            event(&log, text, None);
        }
        // The same bytes in other parts, as after Redis has lost them.
        for most in [5, 100, 3] {
            assert!(!hand_on(&log, &copy, &mut LogCursor::default(), most));
            assert_eq!(all_of(&copy), all_of(&log), "{most}");
        }
        assert_eq!(copy.extent().last, 3);
    }

    #[test]
    fn what_is_missing_is_known_to_be_missing() {
        let (log, copy, mut cursor) = (log(12), log(1000), LogCursor::default());
        event(&log, "one;", Some("a"));
        hand_on(&log, &copy, &mut cursor, 100);
        for text in ["two;", "three;", "four;", "five;"] {
            event(&log, text, None);
        }
        assert_eq!(log.trim(usize::MAX, std::time::Duration::ZERO), None);
        assert!(hand_on(&log, &copy, &mut cursor, 100), "it has lost three");
        let extent = copy.extent();
        assert_eq!((extent.before, extent.last, extent.is_torn), (3, 5, false));
        assert_eq!(copy.locate(&Position::After(1)), LogPlace::Behind);
        assert_eq!(copy.locate(&Position::After(4)), log.locate(&Position::After(4)));
        assert_eq!(copy.locate(&Position::AfterOwn(b"a".to_vec())), LogPlace::Behind);
        assert_eq!(copy.locate(&Position::AfterOwn(b"b".to_vec())), LogPlace::Unknown);
        copy.forget_ids();
        assert_eq!(copy.locate(&Position::AfterOwn(b"b".to_vec())), LogPlace::Behind);
        assert!(copy.end(StreamEnd::Complete));
    }

    #[test]
    fn a_second_reader_is_waited_for_only_where_nobody_else_reads() {
        use std::time::Duration;
        let patience = Duration::from_secs(30);
        let log = log(8);
        let mut second = log.open_second();
        for _ in 0..3 {
            event(&log, "one;", None);
        }
        assert!(log.trim(usize::MAX, patience).is_some(), "it would lose the first");
        log.advance(&mut second, 4);
        assert!(log.trim(usize::MAX, patience).is_none());
        for _ in 0..3 {
            event(&log, "two;", None);
        }
        assert!(log.trim(usize::MAX, patience).is_some(), "it would lose the second");
        let first = log.open(24);
        assert!(log.trim(usize::MAX, patience).is_none(), "what has read all loses nothing");
        log.close(&first);
        log.close(&second);
    }
}
