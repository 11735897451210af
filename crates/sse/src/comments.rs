//! Inserts keep-alive comments into an event stream that a backend writes.
//!
//! The stream passes through byte by byte. A comment is a single line, `:`, inserted only at the
//! start of a line: it dispatches no event, ends none and does not become part of one. It uses the
//! line ending of the lines around it: some clients detect the end of an event by two equal line
//! endings, and would miss `LF CR LF`. Pure: the caller decides when a comment is due.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::line_state::{BYTE_ORDER_MARK, LineState};

/// Passes an event stream through, and inserts comments.
#[derive(Debug, Default)]
pub struct CommentInserter {
    state: LineState,
    // A comment was sent before the first byte, so a byte order mark would no longer stand at the
    // start of the stream. It carries no information (the stream is always UTF-8) and is dropped.
    is_mark_late: bool,
    // The last line ended with a CR, and its LF was sent before a comment: an LF that follows in
    // the stream is dropped.
    is_lf_written: bool,
}

impl CommentInserter {
    /// Returns the next bytes of the stream as they are to be sent: unchanged, except that an LF
    /// already sent before a comment and a byte order mark after a comment are dropped.
    pub fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        if std::mem::take(&mut self.is_lf_written) && bytes[0] == b'\n' {
            bytes.advance(1);
        }
        if !self.is_mark_late {
            self.state = self.state.after(&bytes);
            return bytes;
        }
        self.pass_first(bytes)
    }

    /// Returns a comment, if one may be inserted now.
    pub fn comment(&mut self) -> Option<Bytes> {
        let comment: &[u8] = match self.state {
            LineState::ByteOrderMark(_) | LineState::InLine => return None,
            LineState::Start => {
                self.is_mark_late = true;
                b":\n"
            }
            LineState::LineEnd { is_crlf: false, .. } => b":\n",
            LineState::LineEnd { is_crlf: true, .. } => b":\r\n",
            // Whether the lines end with CR or CRLF is not known yet. An LF that follows completes
            // the CR of the comment, which then has the same line ending.
            LineState::AfterCr { is_empty: false, .. } => b":\r",
            LineState::AfterCr { is_empty: true, is_in_crlf } => {
                self.is_lf_written = true;
                self.state = LineState::LineEnd { is_empty: true, is_crlf: is_in_crlf };
                if is_in_crlf { b"\n:\r\n" } else { b"\n:\n" }
            }
        };
        Some(Bytes::from_static(comment))
    }

    /// Returns the bytes still withheld when the stream has ended.
    pub fn finish(&mut self) -> Bytes {
        let withheld = self.withheld();
        self.is_mark_late = false;
        Bytes::from_static(withheld)
    }

    /// Whether every event sent so far is complete.
    pub fn is_between_blocks(&self) -> bool {
        self.state.is_between_blocks()
    }

    /// Handles the first bytes of a stream after a comment was sent before them.
    fn pass_first(&mut self, mut bytes: Bytes) -> Bytes {
        let withheld = self.withheld();
        let awaited = &BYTE_ORDER_MARK[withheld.len()..];
        let matching = awaited.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
        if matching == awaited.len() {
            bytes.advance(matching);
            self.is_mark_late = false;
            self.state = LineState::LineEnd { is_empty: true, is_crlf: false }.after(&bytes);
            return bytes;
        }
        self.state = self.state.after(&bytes);
        if matching == bytes.len() {
            return Bytes::new();
        }
        self.is_mark_late = false;
        if withheld.is_empty() {
            return bytes;
        }
        let mut both = BytesMut::with_capacity(withheld.len() + bytes.len());
        both.put_slice(withheld);
        both.put_slice(&bytes);
        both.freeze()
    }

    fn withheld(&self) -> &'static [u8] {
        match self.state {
            LineState::ByteOrderMark(bytes) if self.is_mark_late => &BYTE_ORDER_MARK[..bytes],
            _ => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::CommentInserter;
    use crate::parse::{Parser, SseItem};

    /// Passes `pieces` through. Before each piece and at the end, inserts as many comments as
    /// `comments` returns, where one may be inserted. Returns the output and the number of
    /// comments.
    fn pass(pieces: &[&[u8]], mut comments: impl FnMut() -> usize) -> (Vec<u8>, usize) {
        let (mut inserter, mut out, mut inserted) = (CommentInserter::default(), Vec::new(), 0);
        let mut insert = |inserter: &mut CommentInserter, out: &mut Vec<u8>| {
            for comment in (0..comments()).filter_map(|_| inserter.comment()) {
                out.extend_from_slice(&comment);
                inserted += 1;
            }
        };
        for piece in pieces {
            insert(&mut inserter, &mut out);
            out.extend_from_slice(&inserter.pass(Bytes::copy_from_slice(piece)));
        }
        insert(&mut inserter, &mut out);
        out.extend_from_slice(&inserter.finish());
        (out, inserted)
    }

    fn read(stream: &[u8]) -> (Vec<SseItem>, String) {
        let mut parser = Parser::new(1 << 16);
        let mut items = Vec::new();
        parser.feed(stream, |item| items.push(item));
        items.retain(|item| !matches!(item, SseItem::Comment(_)));
        (items, parser.last_event_id().to_owned())
    }

    #[test]
    fn comments_are_inserted_only_at_the_start_of_a_line() {
        for (pieces, expected) in [
            (&["data: a\n\n"][..], ":\ndata: a\n\n:\n"),
            (&["data: a", "\n", "\n", "data"], ":\ndata: a\n:\n\n:\ndata"),
            (&["\u{feff}", "data: a\n"], ":\n:\ndata: a\n:\n"),
            (&[""], ":\n:\n"),
        ] {
            assert_eq!(with_comments(pieces), expected);
        }
    }

    #[test]
    fn a_comment_has_the_line_ending_of_the_lines_around_it() {
        for (pieces, expected) in [
            // CRLF.
            (&["data: a\r\n\r\n", "data: b\r\n"][..], ":\ndata: a\r\n\r\n:\r\ndata: b\r\n:\r\n"),
            (&["data: a\r", "\n\r", "\n"], ":\ndata: a\r:\r\n\r\n:\r\n:\r\n"),
            (&["data: a\r\n\r", "\ndata: b"], ":\ndata: a\r\n\r\n:\r\ndata: b"),
            (&["data: a\r\n\r", "data: b"], ":\ndata: a\r\n\r\n:\r\ndata: b"),
            // CR.
            (&["data: a\r\r", "data: b\r"], ":\ndata: a\r\r\n:\ndata: b\r:\r"),
            (&["data: a\r", "\r", "data: b\r"], ":\ndata: a\r:\r\r\n:\ndata: b\r:\r"),
            (&["data: a\r\r", "\n", "\n"], ":\ndata: a\r\r\n:\n:\n\n:\n"),
        ] {
            assert_eq!(with_comments(pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn an_idle_stream_takes_any_number_of_comments() {
        for stream in ["", "data: a\n\n", "data: a\r\n\r\n", "data: a\r\r", "data: a\r"] {
            let mut inserter = CommentInserter::default();
            let _passed = inserter.pass(Bytes::from_static(stream.as_bytes()));
            let comments = (0..5).filter_map(|_| inserter.comment());
            assert_eq!(comments.count(), 5, "{stream:?}");
        }
    }

    /// Inserts a comment before each piece and at the end, where one may be inserted.
    fn with_comments(pieces: &[&str]) -> String {
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        String::from_utf8(pass(&pieces, || 1).0).expect("pieces are text")
    }

    #[test]
    fn a_split_byte_order_mark_is_dropped_only_after_a_comment() {
        let pieces = [&b"\xef"[..], b"\xbb", b"\xbfdata: a\n\n"];
        assert_eq!(pass(&pieces, || 0).0, b"\xef\xbb\xbfdata: a\n\n");
        assert_eq!(pass(&pieces, || 1).0, b":\ndata: a\n\n:\n");
        assert_eq!(pass(&pieces[..2], || 1).0, b":\n\xef\xbb", "not a byte order mark");
        assert_eq!(pass(&[b"\xef", b"\xbbx"], || 1).0, b":\n\xef\xbbx");
        assert_eq!(pass(&[b"\xef\xbb\xbf", b"\xef\xbb\xbf"], || 1).0, b":\n:\n\xef\xbb\xbf");
    }

    /// Streams of tokens that are hard to handle.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::sample::select(vec![
            &b"\n"[..],
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\xef\xbb\xbf",
            b"\xef",
            b"\xbb",
            b"\xbf",
            b"data: ",
            b"data:",
            b"data",
            b"event: e",
            b"id: ",
            b"id",
            b"retry: 7",
            b":",
            b": x",
            b"x",
            b"\0",
            b"\xff",
        ]);
        prop::collection::vec(words, 0..24).prop_map(|words| words.concat())
    }

    fn cut<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let ends: Vec<_> = cuts.iter().copied().chain([stream.len()]).collect();
        let begins = std::iter::once(0).chain(cuts.iter().copied());
        begins.zip(&ends).map(|(begin, &end)| &stream[begin..end]).collect()
    }

    /// Splits a stream into events as Symfony's client and PyPI's `sseclient` do: at two or more
    /// equal line endings. Returns the lines of each event except comments.
    fn blocks(stream: &[u8]) -> Vec<Vec<String>> {
        let text = std::str::from_utf8(stream).expect("text");
        let (mut blocks, mut begin, mut at) = (Vec::new(), 0, 0);
        while at < text.len() {
            let run = |end: &str| text[at..].len() - text[at..].trim_start_matches(end).len();
            let runs = [("\r\n", 4), ("\r", 2), ("\n", 2)];
            let mut runs = runs.map(|(end, least)| (run(end), least)).into_iter();
            let Some((length, _)) = runs.find(|(length, least)| length >= least) else {
                at += 1;
                continue;
            };
            let lines = text[begin..at].split(['\r', '\n']);
            let fields = lines.filter(|line| !line.is_empty() && !line.starts_with(':'));
            blocks.push(fields.map(str::to_owned).collect());
            at += length;
            begin = at;
        }
        blocks.retain(|block: &Vec<String>| !block.is_empty());
        blocks
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn comments_do_not_change_what_a_browser_dispatches(
            stream in streams(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            comments in prop::collection::vec(0usize..3, 10),
        ) {
            let pieces = cut(&stream, &cuts);
            let mut numbers = comments.into_iter().cycle();
            let (out, inserted) = pass(&pieces, || numbers.next().unwrap_or_default());
            prop_assert_eq!(read(&out), read(&stream));
            let least = stream.len() + 2 * inserted;
            prop_assert!(out.len() + 3 >= least, "only a byte order mark may be dropped");

            let (untouched, _) = pass(&pieces, || 0);
            prop_assert_eq!(untouched, stream);
        }

        #[test]
        fn comments_do_not_change_what_a_client_that_splits_at_equal_line_endings_reads(
            line_end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
            lines in prop::collection::vec(
                prop::sample::select(vec!["", "data: a", "event: e", "id: 1", ": c"]),
                0..16,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            comments in prop::collection::vec(0usize..3, 10),
        ) {
            let stream: String = lines.iter().flat_map(|line| [line, line_end]).collect();
            let pieces = cut(stream.as_bytes(), &cuts);
            let mut numbers = comments.into_iter().cycle();
            let (out, _) = pass(&pieces, || numbers.next().unwrap_or_default());
            prop_assert_eq!(blocks(&out), blocks(stream.as_bytes()), "{:?}", String::from_utf8_lossy(&out));
        }
    }
}
