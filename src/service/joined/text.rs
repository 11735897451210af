//! Merges the text of the parts of a stream into the text of the whole: without I/O.

use super::id::{self, PartKey};

/// The start of an id line, and of the next line in a block with a position.
const ID: &str = "id: ";
const READY: &str = ": ready";
const POSITION: &str = ": position";

/// The state of the parts of a stream.
#[derive(Debug)]
pub(super) struct JoinedText {
    servers: usize,
    parts: Box<[KnownPart]>,
    // Whether the ids of events are positions of the gateway, not those of publishers.
    has_positions: bool,
    // Whether the client is sent blocks with its position.
    is_told_position: bool,
    is_ready: bool,
    // The id that was sent last.
    sent: Option<String>,
}

#[derive(Debug)]
struct KnownPart {
    key: PartKey,
    id: Option<Box<str>>,
    is_ready: bool,
}

impl JoinedText {
    /// Starts without any text. Each part has the position of its client.
    pub(super) fn new(
        servers: usize,
        parts: impl Iterator<Item = (PartKey, Option<String>)>,
        (has_positions, is_told_position): (bool, bool),
    ) -> Self {
        let part = |(key, id): (PartKey, Option<String>)| KnownPart {
            key,
            id: id.map(String::into_boxed_str),
            is_ready: false,
        };
        let parts = parts.map(part).collect();
        Self { servers, parts, has_positions, is_told_position, is_ready: false, sent: None }
    }

    /// Takes complete lines of a part; returns those of the whole, which may be none.
    pub(super) fn take(&mut self, part: usize, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 64);
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let content = line.trim_end_matches('\n');
            if let Some(id) = content.strip_prefix(ID).filter(|_| self.has_positions) {
                self.parts[part].id = Some(id.into());
                let next = lines.peek().map_or("", |next| next.trim_end_matches('\n'));
                if [READY, POSITION].contains(&next) {
                    let is_ready = next == READY;
                    // The line, and the empty one that ends the block.
                    lines.nth(1);
                    self.block(part, is_ready, &mut out);
                    continue;
                }
                self.id_line(&mut out);
            } else if content == READY {
                self.block(part, true, &mut out);
            } else {
                out.push_str(line);
            }
        }
        out
    }

    /// Handles a block of a part: it is ready, or has a position. The whole is ready once all parts
    /// are, and then has a position, too.
    fn block(&mut self, part: usize, is_ready: bool, out: &mut String) {
        self.parts[part].is_ready |= is_ready;
        let was_ready = self.is_ready;
        self.is_ready = self.parts.iter().all(|part| part.is_ready);
        let says_ready = self.is_ready && !was_ready;
        let has_block = self.is_told_position && self.has_positions && self.is_ready;
        match (says_ready, has_block) {
            // The client has this position already.
            (false, true) if self.id() == self.sent => {}
            (_, true) => {
                self.id_line(out);
                out.push_str(if says_ready { READY } else { POSITION });
                out.push_str("\n\n");
            }
            (true, false) => {
                out.push_str(READY);
                out.push('\n');
            }
            (false, false) => {}
        }
    }

    fn id(&self) -> Option<String> {
        let parts = self.parts.iter().map(|part| (part.key, part.id.as_deref()));
        id::write(self.servers, parts)
    }

    fn id_line(&mut self, out: &mut String) {
        self.sent = self.id();
        if let Some(id) = &self.sent {
            out.push_str(ID);
            out.push_str(id);
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JoinedText;
    use crate::service::joined::PartKey;

    fn text(has_positions: bool, is_told: bool) -> JoinedText {
        let parts = [0, 2].map(|server| (PartKey::new(server, &[]), None));
        JoinedText::new(3, parts.into_iter(), (has_positions, is_told))
    }

    #[test]
    fn it_is_ready_when_all_its_parts_are() {
        let mut line = text(true, false);
        assert_eq!(line.take(0, ":\nretry: 3000\n"), ":\nretry: 3000\n");
        assert_eq!(line.take(0, "id: a-1\n: ready\n\n"), "");
        assert_eq!(line.take(0, "data: x\nid: a-2\n\n"), "data: x\nid: 3*0=a-2\n\n");
        assert_eq!(line.take(1, "id: b-7\n: ready\n\n"), ": ready\n");
        assert_eq!(line.take(1, "id: b-7-m\n: position\n\n"), "", "it is told with the next event");
        assert_eq!(line.take(0, "data: y\nid: a-3\n\n"), "data: y\nid: 3*0=a-3*2=b-7-m\n\n");
        assert_eq!(line.take(1, ":\n"), ":\n");

        let mut block = text(true, true);
        assert_eq!(block.take(1, "id: b-7\n: ready\n\n"), "");
        let ready = block.take(0, "id: a-1\n: ready\n\ndata: x\nid: a-2\n\n");
        assert_eq!(ready, "id: 3*0=a-1*2=b-7\n: ready\n\ndata: x\nid: 3*0=a-2*2=b-7\n\n");
        let position = block.take(1, "id: b-8\n: position\n\n");
        assert_eq!(position, "id: 3*0=a-2*2=b-8\n: position\n\n");
        assert_eq!(block.take(1, "id: b-8\n: position\n\n"), "", "it was told that");
    }

    #[test]
    fn only_what_the_gateway_says_is_changed() {
        let mut all = text(true, false);
        let data = "event: e\ndata: id: 7\ndata: : ready\ndata: \nid: a-1\n\n";
        assert_eq!(
            all.take(0, data),
            "event: e\ndata: id: 7\ndata: : ready\ndata: \nid: 3*0=a-1\n\n"
        );
        let closing = ": drained\nretry: 3456\n";
        assert_eq!(all.take(1, closing), closing);
    }

    #[test]
    fn ids_of_publishers_are_left_alone() {
        let mut own = text(false, true);
        assert_eq!(own.take(0, "data: x\nid: mine\n\n"), "data: x\nid: mine\n\n");
        assert_eq!(own.take(0, ": ready\n"), "");
        assert_eq!(own.take(1, ": ready\n"), ": ready\n");
    }

    #[test]
    fn a_client_that_comes_back_stands_where_it_was_until_a_part_says_more() {
        let parts = [
            (PartKey::new(0, &[]), Some("a-1".into())),
            (PartKey::new(1, &[]), Some("b-1".into())),
        ];
        let mut text = JoinedText::new(2, parts.into_iter(), (true, false));
        assert_eq!(text.take(1, "data: x\nid: b-2\n\n"), "data: x\nid: 2*0=a-1*1=b-2\n\n");
    }
}
