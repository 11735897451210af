//! Comments put into a stream that somebody else writes, so that it is kept alive.
//!
//! The stream goes on byte by byte as it came. A comment is one line, `:`, and stands only where a
//! line begins: it fires no event, ends none, and does not become part of one. It ends as the lines
//! around it do: some clients look for the end of an event as two line ends of one kind, and would
//! miss `LF CR LF`. Pure: when it is time for a comment is not known here.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::place::{MARK, Place};

/// What goes out of a stream that comes in.
#[derive(Debug, Default)]
pub struct Interjector {
    place: Place,
    // A comment stands before the first byte, so that a byte order mark would not open the stream
    // any more. It says nothing (the stream is UTF-8 in any case), and is left out.
    is_mark_late: bool,
    // The last line ended with a CR, and its LF was written with a comment: the stream's own is
    // left out.
    is_lf_written: bool,
}

impl Interjector {
    /// The next bytes of the stream, as they go out: as they are. Fewer, or none, only behind a
    /// comment: an LF that went out before it, and a byte order mark that comes too late.
    pub fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        if std::mem::take(&mut self.is_lf_written) && bytes[0] == b'\n' {
            bytes.advance(1);
        }
        if !self.is_mark_late {
            self.place = self.place.after(&bytes);
            return bytes;
        }
        self.pass_first(bytes)
    }

    /// A comment, where one may stand now.
    pub fn comment(&mut self) -> Option<Bytes> {
        let comment: &[u8] = match self.place {
            Place::Mark(_) | Place::InLine => return None,
            Place::Start => {
                self.is_mark_late = true;
                b":\n"
            }
            Place::LineEnd { is_crlf: false, .. } => b":\n",
            Place::LineEnd { is_crlf: true, .. } => b":\r\n",
            // Whether the lines end with CR or CRLF is not known yet. An LF that follows belongs to
            // the CR of the comment, and all is as before.
            Place::AfterCr { is_empty: false, .. } => b":\r",
            Place::AfterCr { is_empty: true, is_in_crlf } => {
                self.is_lf_written = true;
                self.place = Place::LineEnd { is_empty: true, is_crlf: is_in_crlf };
                if is_in_crlf { b"\n:\r\n" } else { b"\n:\n" }
            }
        };
        Some(Bytes::from_static(comment))
    }

    /// What is left when the stream is over.
    pub fn finish(&mut self) -> Bytes {
        let withheld = self.withheld();
        self.is_mark_late = false;
        Bytes::from_static(withheld)
    }

    /// Whether all events that have gone out are whole.
    pub fn is_between_blocks(&self) -> bool {
        self.place.is_between_blocks()
    }

    /// The first bytes of a stream that a comment stands before.
    fn pass_first(&mut self, mut bytes: Bytes) -> Bytes {
        let withheld = self.withheld();
        let awaited = &MARK[withheld.len()..];
        let matching = awaited.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
        if matching == awaited.len() {
            bytes.advance(matching);
            self.is_mark_late = false;
            self.place = Place::LineEnd { is_empty: true, is_crlf: false }.after(&bytes);
            return bytes;
        }
        self.place = self.place.after(&bytes);
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
        match self.place {
            Place::Mark(bytes) if self.is_mark_late => &MARK[..bytes],
            _ => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::Interjector;
    use crate::sse::parse::{Item, Parser};

    /// What goes out when the stream comes in these pieces, with a comment wherever one may stand
    /// before a piece, and at the end, and the numbers say so.
    fn pass(pieces: &[&[u8]], mut comments: impl FnMut() -> usize) -> (Vec<u8>, usize) {
        let (mut interjector, mut out, mut said) = (Interjector::default(), Vec::new(), 0);
        let mut say = |interjector: &mut Interjector, out: &mut Vec<u8>| {
            for comment in (0..comments()).filter_map(|_| interjector.comment()) {
                out.extend_from_slice(&comment);
                said += 1;
            }
        };
        for piece in pieces {
            say(&mut interjector, &mut out);
            out.extend_from_slice(&interjector.pass(Bytes::copy_from_slice(piece)));
        }
        say(&mut interjector, &mut out);
        out.extend_from_slice(&interjector.finish());
        (out, said)
    }

    fn read(stream: &[u8]) -> (Vec<Item>, String) {
        let mut parser = Parser::new(1 << 16);
        let mut items = Vec::new();
        parser.feed(stream, |item| items.push(item));
        items.retain(|item| !matches!(item, Item::Comment(_)));
        (items, parser.last_event_id().to_owned())
    }

    #[test]
    fn comments_stand_only_where_a_line_begins() {
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
    fn a_comment_ends_as_the_lines_around_it() {
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
    fn a_quiet_stream_gets_comments_for_ever() {
        for stream in ["", "data: a\n\n", "data: a\r\n\r\n", "data: a\r\r", "data: a\r"] {
            let mut interjector = Interjector::default();
            let _passed = interjector.pass(Bytes::from_static(stream.as_bytes()));
            let comments = (0..5).filter_map(|_| interjector.comment());
            assert_eq!(comments.count(), 5, "{stream:?}");
        }
    }

    /// With a comment before each piece, and at the end, wherever one may stand.
    fn with_comments(pieces: &[&str]) -> String {
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        String::from_utf8(pass(&pieces, || 1).0).expect("pieces are text")
    }

    #[test]
    fn a_mark_in_pieces_is_left_out_only_when_a_comment_came_before_it() {
        let pieces = [&b"\xef"[..], b"\xbb", b"\xbfdata: a\n\n"];
        assert_eq!(pass(&pieces, || 0).0, b"\xef\xbb\xbfdata: a\n\n");
        assert_eq!(pass(&pieces, || 1).0, b":\ndata: a\n\n:\n");
        assert_eq!(pass(&pieces[..2], || 1).0, b":\n\xef\xbb", "no mark at all");
        assert_eq!(pass(&[b"\xef", b"\xbbx"], || 1).0, b":\n\xef\xbbx");
        assert_eq!(pass(&[b"\xef\xbb\xbf", b"\xef\xbb\xbf"], || 1).0, b":\n:\n\xef\xbb\xbf");
    }

    /// Streams of what is hard about streams.
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

    /// The events of a stream, read as Symfony's client and PyPI's `sseclient` do: what stands before
    /// two or more line ends of one kind; and in it every line that is no comment.
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
        fn a_browser_sees_the_same_with_and_without_comments(
            stream in streams(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            comments in prop::collection::vec(0usize..3, 10),
        ) {
            let pieces = cut(&stream, &cuts);
            let mut numbers = comments.into_iter().cycle();
            let (out, said) = pass(&pieces, || numbers.next().unwrap_or_default());
            prop_assert_eq!(read(&out), read(&stream));
            prop_assert!(out.len() + 3 >= stream.len() + 2 * said, "only a mark may be left out");

            let (untouched, _) = pass(&pieces, || 0);
            prop_assert_eq!(untouched, stream);
        }

        #[test]
        fn a_client_that_looks_for_two_line_ends_of_one_kind_sees_the_same(
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
