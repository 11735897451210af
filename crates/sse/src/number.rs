//! Adds ids to the events of a backend's stream, so that clients can resume it.
//!
//! The bytes pass as they come, also in the middle of a line, with two changes. An event that has data and no
//! id gets the line `id: <stream>-<n>`, as the last line before its empty line: a client that keeps an id as
//! soon as it has read the line would otherwise skip an event that was cut in its middle. And the empty line
//! of a block that has nothing but comments is dropped: it dispatches nothing (WHATWG HTML §9.2.6), but
//! several clients make an event of it once they have seen an id.
//!
//! If the first event with data has an id, the stream has ids of its own, and none is added. Pure.

use std::mem;

use bytes::{BufMut as _, BytesMut};

/// The longest id of a backend that is reported to the caller, in bytes.
pub const MAX_OWN_ID: usize = 1024;
/// Enough of a line to know the name of its field, behind a byte order mark.
const LINE_HEAD: usize = 8;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Numbers the events of one stream, from its first byte on.
///
/// ```
/// use bytes::BytesMut;
/// use ssegate_sse::number::EventNumberer;
///
/// let mut numberer = EventNumberer::new("abc");
/// let mut passed = BytesMut::new();
/// for chunk in [": hi\n\nda", "ta: one\n", "\n"] {
///     numberer.pass(chunk.as_bytes(), &mut passed, |_edge| ());
/// }
/// assert_eq!(&passed[..], b": hi\ndata: one\nid: abc-1\n\n");
/// ```
#[derive(Debug)]
pub struct EventNumberer {
    prefix: Box<str>,
    ids: WhoseIds,
    events: u64,
    // The beginning of the open line; all of it where it may be an id.
    line: Vec<u8>,
    line_bytes: u64,
    // No line has ended yet, so that a byte order mark may stand here.
    is_at_start: bool,
    line_end: &'static [u8],
    after_cr: Option<EndedLine>,
    block: OpenBlock,
}

/// Whose ids the events have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhoseIds {
    /// No event with data has come.
    Unknown {
        is_id_set: bool,
    },
    Ours,
    Theirs,
}

/// What has come of the open block, as far as it decides how the block ends.
#[derive(Debug, Default)]
struct OpenBlock {
    has_fields: bool,
    has_data: bool,
    id: Option<OwnId>,
}

/// The id that a backend gives an event.
#[derive(Debug)]
enum OwnId {
    Kept(Vec<u8>),
    /// A client may resume with it, and is told that the id is unknown.
    TooLong,
}

/// The line that a CR has ended. If an LF follows, it belongs to this line end.
#[derive(Clone, Copy, Debug)]
enum EndedLine {
    OfBlock,
    /// The empty line of an event.
    Event,
    /// The empty line of a block without data.
    Empty,
    Dropped,
}

/// Where something ends in the bytes that [`EventNumberer::pass`] has added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge<'a> {
    /// An event with data is complete.
    Event {
        /// The offset behind it.
        end: usize,
        /// The id that the backend gave it.
        id: Option<&'a [u8]>,
    },
    /// The last event ends one byte later: that byte is the LF of the CR with which it ended.
    Longer,
    /// A block without data has set this id, after the last event.
    Id(&'a [u8]),
}

impl EventNumberer {
    /// Numbers the events of a stream with this name, which is a valid beginning of an id.
    pub fn new(stream: &str) -> Self {
        Self {
            prefix: format!("id: {stream}-").into(),
            ids: WhoseIds::Unknown { is_id_set: false },
            events: 0,
            line: Vec::new(),
            line_bytes: 0,
            is_at_start: true,
            line_end: b"\n",
            after_cr: None,
            block: OpenBlock::default(),
        }
    }

    /// Whether events get ids here; `None` before the first event with data.
    pub fn numbers_events(&self) -> Option<bool> {
        match self.ids {
            WhoseIds::Unknown { .. } => None,
            WhoseIds::Ours => Some(true),
            WhoseIds::Theirs => Some(false),
        }
    }

    /// Whether a part of a block has passed, but not its end.
    pub fn is_in_block(&self) -> bool {
        self.block.has_fields || self.line_bytes > 0
    }

    /// Adds the next bytes of the stream to `passed`, as they are to be sent, and reports what they complete.
    pub fn pass(
        &mut self,
        mut bytes: &[u8],
        passed: &mut BytesMut,
        mut told: impl FnMut(Edge<'_>),
    ) {
        if !bytes.is_empty()
            && let Some(ended) = self.after_cr.take()
            && bytes[0] == b'\n'
        {
            bytes = &bytes[1..];
            self.line_feed(ended, passed, &mut told);
        }
        while let Some(at) = memchr::memchr2(b'\r', b'\n', bytes) {
            self.in_line(&bytes[..at], passed);
            let is_cr = bytes[at] == b'\r';
            bytes = &bytes[at + 1..];
            let ended = self.end_line(if is_cr { b"\r" } else { b"\n" }, passed, &mut told);
            if !is_cr {
                continue;
            }
            match bytes.first() {
                Some(b'\n') => {
                    bytes = &bytes[1..];
                    self.line_feed(ended, passed, &mut told);
                }
                Some(_) => {}
                None => self.after_cr = Some(ended),
            }
        }
        self.in_line(bytes, passed);
    }

    /// Passes a part of a line, without its end.
    fn in_line(&mut self, part: &[u8], passed: &mut BytesMut) {
        passed.put_slice(part);
        self.line_bytes += part.len() as u64;
        let room = LINE_HEAD.saturating_sub(self.line.len());
        let (head, rest) = part.split_at(part.len().min(room));
        self.line.extend_from_slice(head);
        if self.may_be_id() {
            let room = (MAX_OWN_ID + LINE_HEAD).saturating_sub(self.line.len());
            self.line.extend_from_slice(&rest[..rest.len().min(room)]);
        }
    }

    fn may_be_id(&self) -> bool {
        self.without_mark().starts_with(b"id:")
    }

    fn without_mark(&self) -> &[u8] {
        let mark = self.line.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.is_at_start);
        mark.unwrap_or(&self.line)
    }

    /// The LF of a CR LF. It belongs to the line before.
    fn line_feed(
        &mut self,
        ended: EndedLine,
        passed: &mut BytesMut,
        told: &mut impl FnMut(Edge<'_>),
    ) {
        match ended {
            EndedLine::Dropped => return,
            EndedLine::OfBlock => self.line_end = b"\r\n",
            EndedLine::Event => told(Edge::Longer),
            EndedLine::Empty => {}
        }
        passed.put_u8(b'\n');
    }

    fn end_line(
        &mut self,
        end: &'static [u8],
        passed: &mut BytesMut,
        told: &mut impl FnMut(Edge<'_>),
    ) -> EndedLine {
        let is_short = self.line_bytes == self.line.len() as u64;
        if self.without_mark().is_empty() && is_short {
            // Without the first line, a byte order mark in the second would be at the start.
            self.block.has_fields |= self.is_at_start && self.line.is_empty();
            self.start_line();
            return self.end_block(end, passed, told);
        }
        let mut block = mem::take(&mut self.block);
        block.read(self.without_mark(), is_short);
        self.block = block;
        self.start_line();
        self.line_end = end;
        passed.put_slice(end);
        EndedLine::OfBlock
    }

    fn start_line(&mut self) {
        self.is_at_start = false;
        self.line.clear();
        self.line_bytes = 0;
    }

    fn end_block(
        &mut self,
        end: &'static [u8],
        passed: &mut BytesMut,
        told: &mut impl FnMut(Edge<'_>),
    ) -> EndedLine {
        let OpenBlock { has_fields, has_data, id } = mem::take(&mut self.block);
        if !has_fields {
            return EndedLine::Dropped;
        }
        if let WhoseIds::Unknown { is_id_set } = &mut self.ids {
            *is_id_set |= id.is_some();
        }
        if !has_data {
            passed.put_slice(end);
            if let Some(OwnId::Kept(id)) = &id {
                told(Edge::Id(id));
            }
            return EndedLine::Empty;
        }
        self.ids = match self.ids {
            WhoseIds::Unknown { is_id_set: true } => WhoseIds::Theirs,
            WhoseIds::Unknown { is_id_set: false } => WhoseIds::Ours,
            known => known,
        };
        self.events += 1;
        if self.ids == WhoseIds::Ours && id.is_none() {
            passed.put_slice(self.prefix.as_bytes());
            passed.put_slice(self.events.to_string().as_bytes());
            passed.put_slice(self.line_end);
        }
        passed.put_slice(end);
        let id = match &id {
            Some(OwnId::Kept(id)) => Some(&id[..]),
            Some(OwnId::TooLong) | None => None,
        };
        told(Edge::Event { end: passed.len(), id });
        EndedLine::Event
    }
}

impl OpenBlock {
    /// Notes a line. `line` is its beginning, or all of it if `is_whole`.
    fn read(&mut self, line: &[u8], is_whole: bool) {
        self.has_fields |= !line.starts_with(b":");
        match &line[..memchr::memchr(b':', line).unwrap_or(line.len())] {
            b"data" => self.has_data = true,
            b"id" if is_whole => set_id(&mut self.id, line),
            b"id" => self.id = Some(OwnId::TooLong),
            _ => {}
        }
    }
}

/// Sets the id that a line has, in place of an earlier one. An empty value removes that.
fn set_id(id: &mut Option<OwnId>, line: &[u8]) {
    let value = line.get(b"id:".len()..).unwrap_or_default();
    let value = value.strip_prefix(b" ").unwrap_or(value);
    if memchr::memchr(0, value).is_some() {
        return; // "The field is ignored."
    }
    *id = match value.len() {
        0 => None,
        1..=MAX_OWN_ID => Some(OwnId::Kept(String::from_utf8_lossy(value).into_owned().into())),
        _ => Some(OwnId::TooLong),
    };
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{Edge, EventNumberer, MAX_OWN_ID};
    use crate::parse::{Parser, SseItem};

    /// What passes of a stream that comes in these chunks, and the ends of its events with their ids.
    fn pass<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (BytesMut, Vec<(usize, String)>) {
        let (mut numberer, mut passed) = (EventNumberer::new("s"), BytesMut::new());
        let mut events: Vec<(usize, String)> = Vec::new();
        for chunk in chunks {
            numberer.pass(chunk, &mut passed, |edge| match edge {
                Edge::Event { end, id } => {
                    let id = String::from_utf8_lossy(id.unwrap_or_default());
                    events.push((end, id.into_owned()));
                }
                Edge::Longer => events.last_mut().expect("an event").0 += 1,
                Edge::Id(id) => events.push((0, String::from_utf8_lossy(id).into_owned())),
            });
        }
        (passed, events)
    }

    #[test]
    fn an_event_without_an_id_gets_one_as_its_last_line() {
        for (stream, expected) in [
            ("data: a\n\n", "data: a\nid: s-1\n\n"),
            ("data: a\r\n\r\n", "data: a\r\nid: s-1\r\n\r\n"),
            ("data: a\r\r", "data: a\rid: s-1\r\r"),
            ("data: a\r\n\n", "data: a\r\nid: s-1\r\n\n"),
            ("data\n\ndata:b\n\n", "data\nid: s-1\n\ndata:b\nid: s-2\n\n"),
            ("\u{feff}data: a\n\n", "\u{feff}data: a\nid: s-1\n\n"),
            ("\u{feff}\ndata: a\n\n", "\u{feff}data: a\nid: s-1\n\n"),
            ("event: x\ndata: a\ndata: b\n\n", "event: x\ndata: a\ndata: b\nid: s-1\n\n"),
            // Comment blocks become comment lines, and further empty lines go.
            (": hi\n\ndata: a\n\n\n: \n\n", ": hi\ndata: a\nid: s-1\n\n: \n"),
            (": hi\r\n\r\n\r\ndata: a\r\n\r\n", ": hi\r\ndata: a\r\nid: s-1\r\n\r\n"),
            // Other blocks without data pass.
            ("retry: 3\n\nevent: x\n\ndata: a\n\n", "retry: 3\n\nevent: x\n\ndata: a\nid: s-1\n\n"),
            // No field that the standard knows.
            ("database: a\n\ndat\n\n", "database: a\n\ndat\n\n"),
            // One with an id among those without.
            (
                "data: a\n\nid: 7\ndata: b\n\ndata: c\n\n",
                "data: a\nid: s-1\n\nid: 7\ndata: b\n\ndata: c\nid: s-3\n\n",
            ),
            // Its own ids.
            ("id: 7\ndata: a\n\ndata: b\n\n", "id: 7\ndata: a\n\ndata: b\n\n"),
            ("id: 7\n\ndata: a\n\n", "id: 7\n\ndata: a\n\n"),
            // These set none.
            ("id: \0\ndata: a\n\n", "id: \0\ndata: a\nid: s-1\n\n"),
            ("id\ndata: a\n\n", "id\ndata: a\nid: s-1\n\n"),
            // An event that does not end.
            ("data: a\n", "data: a\n"),
        ] {
            let (passed, _) = pass([stream.as_bytes()]);
            assert_eq!(String::from_utf8_lossy(&passed), expected, "{stream:?}");
        }
    }

    #[test]
    fn the_ids_of_a_backend_are_told_with_the_ends_of_its_events() {
        let stream = b"id: 7\ndata: a\n\nid: 8\n\ndata: b\r\n\r\nid:9\ndata\n\n";
        let (passed, events) = pass(stream.chunks(1));
        assert_eq!(&passed[..], stream);
        let events: Vec<_> = events.iter().map(|(end, id)| (*end, id.as_str())).collect();
        assert_eq!(events, [(15, "7"), (0, "8"), (33, ""), (44, "9")]);
        let long = format!("id: {}\ndata: a\n\n", "x".repeat(MAX_OWN_ID + 1));
        let (passed, events) = pass([long.as_bytes()]);
        assert_eq!(&passed[..], long.as_bytes(), "it has an id");
        assert_eq!(events, [(long.len(), String::new())], "which is not kept");
    }

    fn events_of(stream: &[u8]) -> Vec<(Option<String>, Vec<u8>, Option<String>)> {
        let mut events = Vec::new();
        Parser::new(1 << 20).feed(stream, |item| {
            if let SseItem::Event { event, .. } = item {
                let name = event.name.map(|name| name.to_string());
                events.push((name, event.data.to_vec(), event.id.map(|id| id.to_string())));
            }
        });
        events
    }

    /// What a client reads, without comments.
    fn items_of(stream: &[u8]) -> Vec<SseItem> {
        let mut items = Vec::new();
        Parser::new(1 << 20).feed(stream, |item| items.push(item));
        items.retain(|item| !matches!(item, SseItem::Comment(_)));
        items
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter_and_only_ids_change(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "data: a", "data", "data:b", "id: 7", "id", "event: e", ": c", ":", "retry: 5", "x", "\u{feff}",
                "\n", "\n\n", "\r", "\r\n", "\r\n\r\n", "\r\r", "\n\r",
            ]), 0..40),
            cuts in prop::collection::vec(1usize..7, 1..12),
        ) {
            let stream: String = pieces.concat();
            let whole = pass([stream.as_bytes()]);
            let (mut rest, mut chunks, mut cuts) = (stream.as_bytes(), Vec::new(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rest.len().min(*cuts.next().expect("endless")));
                chunks.push(chunk);
                rest = after;
            }
            let in_chunks = pass(chunks);
            prop_assert_eq!(&in_chunks, &whole);
            let (before, after) = (events_of(stream.as_bytes()), events_of(&whole.0));
            prop_assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(&after) {
                prop_assert_eq!((&before.0, &before.1), (&after.0, &after.1));
            }
            // Every event can be resumed after: it has an id as soon as one of ours was given.
            let ours = after.iter().position(|event| event.2.as_deref().is_some_and(|id| id.starts_with("s-")));
            if let Some(first) = ours {
                prop_assert!(after[first..].iter().all(|event| event.2.as_deref().is_some_and(|id| !id.is_empty())));
            }
            // A client that resumes after an event gets the events that follow, and no more. The comment line stands
            // for what a response begins with: without it, U+FEFF in the rest would be a byte order mark.
            let ends: Vec<usize> = whole.1.iter().map(|(end, _)| *end).filter(|end| *end > 0).collect();
            for (number, end) in ends.iter().enumerate() {
                let rest = [b":\n", &whole.0[*end..]].concat();
                prop_assert_eq!(events_of(&rest).len(), after.len() - number - 1);
            }
        }

        /// Of any bytes: what a client reads, and when it comes back, stays as it was, and so do the backend's ids.
        #[test]
        fn a_client_reads_the_same_of_any_bytes(
            bytes in prop::collection::vec(prop::sample::select(b"datid:: \n\n\r\0\xef\xbb\xbf\xff7".to_vec()), 0..80),
            words in prop::collection::vec(prop::sample::select(vec!["data:x\n", "id:7\n", "\n", "\r\n", "retry:9\n"]), 0..20),
            at in 0..80usize,
            cut in 0..200usize,
        ) {
            let (before, after) = bytes.split_at(at.min(bytes.len()));
            let stream = [before, words.concat().as_bytes(), after].concat();
            let whole = pass([&stream[..]]);
            let (one, other) = stream.split_at(cut.min(stream.len()));
            prop_assert_eq!(&pass([one, other]), &whole);
            let (came, passed) = (items_of(&stream), items_of(&whole.0));
            prop_assert_eq!(came.len(), passed.len());
            for (came, passed) in came.into_iter().zip(passed) {
                match (came, passed) {
                    (SseItem::Event { event: came, .. }, SseItem::Event { event: passed, .. }) => {
                        prop_assert_eq!((came.name, came.data, came.retry), (passed.name, passed.data, passed.retry));
                        if let Some(id) = came.id.filter(|id| !id.is_empty()) {
                            prop_assert_eq!(Some(id), passed.id);
                        }
                    }
                    (came, passed) => prop_assert_eq!(came, passed),
                }
            }
        }
    }
}
