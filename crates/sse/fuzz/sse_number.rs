#![no_main]
//! The numberer of a backend's events passes the same bytes wherever they are cut. A client reads the same
//! events from them, except for the ids that are added.

#[path = "../../../fuzz/fuzz_targets/pieces.rs"]
mod pieces;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ssegate_sse::number::{Edge, EventNumberer};
use ssegate_sse::parse::{Parser, SseItem};

const STREAM: &str = "s";

/// An edge, at its offset in the whole stream.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Event { end: usize, id: Option<Vec<u8>> },
    Id(Vec<u8>),
}

/// What the numberer passes of a stream in pieces, the edges that it reports, and whether it numbers the events.
fn pass<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (BytesMut, Vec<Told>, Option<bool>) {
    let (mut numberer, mut all, mut told) =
        (EventNumberer::new(STREAM), BytesMut::new(), Vec::new());
    for piece in pieces {
        let (before, mut passed) = (all.len(), BytesMut::new());
        numberer.pass(piece, &mut passed, |edge| match edge {
            Edge::Event { end, id } => {
                told.push(Told::Event { end: before + end, id: id.map(<[u8]>::to_vec) });
            }
            // Always of the event before, with no edge reported between.
            Edge::Longer => match told.last_mut() {
                Some(Told::Event { end, .. }) => *end += 1,
                other => panic!("no event before: {other:?}"),
            },
            Edge::Id(id) => told.push(Told::Id(id.to_vec())),
        });
        all.extend_from_slice(&passed);
    }
    (all, told, numberer.numbers_events())
}

/// What a client reads, without comments.
fn read(stream: &[u8]) -> Vec<SseItem> {
    let (mut parser, mut items) = (Parser::new(usize::MAX), Vec::new());
    parser.feed(stream, |item| items.push(item));
    items.retain(|item| !matches!(item, SseItem::Comment(_)));
    items
}

/// An event without its ids, and its ids.
fn split(item: SseItem) -> (SseItem, Option<String>, String) {
    match item {
        SseItem::Event { mut event, last_event_id } => {
            let id = event.id.take().map(|id| id.to_string());
            let last = last_event_id.to_string();
            (SseItem::Event { event, last_event_id: "".into() }, id, last)
        }
        other => (other, None, String::new()),
    }
}

fuzz_target!(|input: &[u8]| {
    let (stream, pieces) = pieces::cut(input);
    let whole = pass([stream]);
    assert_eq!(pass(pieces), whole);
    let (passed, told, is_numbered) = whole;

    let (before, after) = (read(stream), read(&passed));
    assert_eq!(before.len(), after.len());
    let mut number = 0;
    for (before, after) in before.into_iter().zip(after) {
        let is_event = matches!(before, SseItem::Event { .. });
        let ((before, own, last_own), (after, id, last)) = (split(before), split(after));
        assert_eq!(before, after);
        if !is_event {
            continue;
        }
        number += 1;
        match own.filter(|own| !own.is_empty() || is_numbered == Some(false)) {
            Some(own) => assert_eq!(id, Some(own)),
            None if is_numbered == Some(true) => {
                let ours = format!("{STREAM}-{number}");
                assert_eq!((id, last), (Some(ours.clone()), ours));
            }
            None => assert_eq!((id, last), (None, last_own)),
        }
    }

    let ends = told.iter().filter_map(|told| match told {
        Told::Event { end, .. } => Some(*end),
        Told::Id(_) => None,
    });
    let ends: Vec<usize> = ends.collect();
    assert_eq!(ends.len(), number);
    assert!(ends.is_sorted() && ends.iter().all(|end| *end <= passed.len()));
});
