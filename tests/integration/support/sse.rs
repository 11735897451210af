//! A reader of event streams, written from the WHATWG standard, section 9.2.6, "Interpreting an
//! event stream". It shares nothing with the gateway's own.

use std::collections::VecDeque;

/// What a browser would dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message` where the stream names none.
    pub(crate) name: String,
    pub(crate) data: String,
    /// The last event id at that moment.
    pub(crate) id: String,
}

/// What was read: an event, or an id without one, at its empty line; a comment or a time to come back
/// at its own line, wherever that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) event: Option<Event>,
    pub(crate) comments: Vec<String>,
    pub(crate) retry: Option<u64>,
    /// The `id` field itself; of a comment, the one that stands before it in the same block.
    pub(crate) id: Option<String>,
}

/// Takes bytes as they come, gives blocks.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    after_first_line: bool,
    data: String,
    name: String,
    /// The id after all blocks so far.
    read_id: String,
    /// The id after the blocks that were taken.
    last_id: String,
    /// An `id` field takes effect when its block ends.
    new_id: String,
    /// The `id` field of the open block.
    id: Option<String>,
    blocks: VecDeque<Block>,
}

impl Parser {
    /// The next bytes of the stream.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        // As many as there are before the next end of a line at once: lines may be long.
        while !bytes.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', bytes);
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.line.extend_from_slice(line);
            let after_cr = std::mem::replace(&mut self.after_cr, false) && line.is_empty();
            let Some((&byte, rest)) = rest.split_first() else { return };
            self.after_cr = byte == b'\r';
            if !(byte == b'\n' && after_cr) {
                self.end_of_line();
            }
            bytes = rest;
        }
    }

    /// The next block, or line that counts by itself.
    pub(crate) fn next(&mut self) -> Option<Block> {
        let block = self.blocks.pop_front()?;
        // The id of a comment counts once its block ends.
        if block.comments.is_empty()
            && let Some(id) = &block.id
        {
            self.last_id.clone_from(id);
        }
        Some(block)
    }

    /// What [`Self::next`] will give.
    pub(crate) fn front(&self) -> Option<&Block> {
        self.blocks.front()
    }

    /// Whether the bytes so far end between two blocks, not within one.
    pub(crate) fn is_between_blocks(&self) -> bool {
        self.line.is_empty() && self.data.is_empty() && self.name.is_empty() && self.id.is_none()
    }

    /// The id that a client would come back with that has taken these blocks, and no more.
    pub(crate) fn last_id(&self) -> &str {
        &self.last_id
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        // The standard replaces what is not UTF-8; the gateway promises that there is nothing to.
        let line = String::from_utf8(line).expect("the stream is UTF-8");
        let is_first = !std::mem::replace(&mut self.after_first_line, true);
        let line = if is_first { line.strip_prefix('\u{feff}').unwrap_or(&line) } else { &line };
        match line.split_once(':') {
            _ if line.is_empty() => self.dispatch(),
            // It opens the stream, and says nothing.
            Some(("", "")) if is_first => {}
            Some(("", comment)) => {
                let comments = vec![strip_space(comment).to_owned()];
                self.blocks.push_back(Block { comments, id: self.id.clone(), ..Block::default() });
            }
            Some((field, value)) => self.field(field, strip_space(value)),
            None => self.field(line, ""),
        }
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => {
                value.clone_into(&mut self.new_id);
                self.id = Some(value.to_owned());
            }
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.blocks.push_back(Block { retry: value.parse().ok(), ..Block::default() });
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.read_id.clone_from(&self.new_id);
        let (mut data, name) = (std::mem::take(&mut self.data), std::mem::take(&mut self.name));
        let mut block = Block { id: self.id.take(), ..Block::default() };
        // A `data` buffer that was never appended to is empty: nothing to dispatch.
        if data.pop().is_some() {
            let name = if name.is_empty() { "message".to_owned() } else { name };
            block.event = Some(Event { name, data, id: self.read_id.clone() });
        }
        if block != Block::default() {
            self.blocks.push_back(block);
        }
    }
}

fn strip_space(value: &str) -> &str {
    value.strip_prefix(' ').unwrap_or(value)
}

/// The examples of the standard itself: whoever judges must be right.
#[test]
fn the_reader_reads_the_examples_of_the_standard() {
    let cases: [(&str, &[&str]); 5] = [
        ("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &["first event", "second event", " third event"],
        ),
        ("data\n\ndata\ndata\n\ndata:", &["", "\n"]),
        ("data:test\n\ndata: test\n\n", &["test", "test"]),
        ("\u{feff}data: a\r\rdata: b\r\n\r\ndata: c\n\n", &["a", "b", "c"]),
    ];
    for (stream, expected) in cases {
        let mut parser = Parser::default();
        for byte in stream.bytes() {
            parser.push(&[byte]);
        }
        let blocks = std::iter::from_fn(|| parser.next());
        let read: Vec<_> = blocks.filter_map(|block| Some(block.event?.data)).collect();
        assert_eq!(read, expected, "{stream:?}");
    }
}
