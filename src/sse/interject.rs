//! Comments put into a stream that somebody else writes, so that it is kept alive.
//!
//! The stream goes on byte by byte as it came. A comment is one line, `:`, and stands only where a
//! line begins: it fires no event, ends none, and does not become part of one. Where the next byte
//! may still be the LF of a CR, there is no place for it. Pure: when it is time for a comment is not
//! known here.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::place::{MARK, Place};

/// A comment line, without an empty line after it: that would end the block that is open.
pub const COMMENT: &[u8] = b":\n";

/// What goes out of a stream that comes in.
#[derive(Debug, Default)]
pub struct Interjector {
    place: Place,
    // A comment stands before the first byte, so that a byte order mark would not open the stream
    // any more. It says nothing (the stream is UTF-8 in any case), and is left out.
    is_mark_late: bool,
}

impl Interjector {
    /// The next bytes of the stream, as they go out: as they are. Empty only where they may be the
    /// beginning of a byte order mark that comes too late.
    pub fn pass(&mut self, bytes: Bytes) -> Bytes {
        if !self.is_mark_late {
            self.place = self.place.after(&bytes);
            return bytes;
        }
        self.pass_first(bytes)
    }

    /// A comment, where one may stand now.
    pub fn comment(&mut self) -> Option<Bytes> {
        match self.place {
            Place::Start => self.is_mark_late = true,
            Place::LineEnd { .. } => {}
            Place::Mark(_) | Place::InLine | Place::AfterCr { .. } => return None,
        }
        Some(Bytes::from_static(COMMENT))
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
            self.place = Place::LineEnd { is_empty: true }.after(&bytes);
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
            (&["data: a\r", "\n\r", "\n"], ":\ndata: a\r\n\r\n:\n"),
            (&["data: a\r", "\r", "data: b\r"], ":\ndata: a\r\rdata: b\r"),
            (&["\u{feff}", "data: a\n"], ":\n:\ndata: a\n:\n"),
            (&[""], ":\n:\n"),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let (out, _) = pass(&pieces, || 1);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_browser_sees_the_same_with_and_without_comments(
            stream in streams(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            comments in prop::collection::vec(0usize..3, 10),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let ends: Vec<_> = cuts.iter().copied().chain([stream.len()]).collect();
            let begins = std::iter::once(0).chain(cuts.iter().copied());
            let pieces: Vec<_> = begins.zip(&ends).map(|(begin, &end)| &stream[begin..end]).collect();

            let mut numbers = comments.into_iter().cycle();
            let (out, said) = pass(&pieces, || numbers.next().unwrap_or_default());
            prop_assert_eq!(read(&out), read(&stream));
            prop_assert!(out.len() + 3 >= stream.len() + 2 * said, "only a mark may be left out");

            let (untouched, _) = pass(&pieces, || 0);
            prop_assert_eq!(untouched, stream);
        }
    }
}
