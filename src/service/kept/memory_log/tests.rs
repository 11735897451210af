use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::MemoryLog;
use crate::service::kept::log::{KeptRead, LogEdge, LogPlace, LogReader, Position, StreamEnd};

const PATIENCE: Duration = Duration::from_secs(30);

fn new_log(max_bytes: usize, max_events: usize) -> MemoryLog {
    MemoryLog::new(max_bytes, max_events, Arc::default())
}

fn event(log: &MemoryLog, text: &str, id: Option<&str>) {
    let id = id.map(|id| id.as_bytes().into());
    log.append(text.as_bytes(), vec![LogEdge::Event { end: text.len(), id }]);
}

/// Bounds it, though somebody reads.
fn trim(log: &MemoryLog, memory: usize) {
    assert_eq!(log.trim(memory, Duration::ZERO), None);
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
    let log = new_log(1000, 1000);
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
        let (log, empty) = (new_log(1000, 1000), new_log(1000, 1000));
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
    let log = new_log(20, 1000);
    let mut slow = log.open(0);
    event(&log, "first, ", Some("a"));
    event(&log, "second, ", Some("b"));
    event(&log, "third, ", Some("a"));
    trim(&log, usize::MAX);
    assert_eq!(log.locate(&Position::Start), LogPlace::Behind);
    assert_eq!(log.locate(&Position::After(1)), LogPlace::At(7));
    // A client with this id may be behind the first, or behind the third.
    assert_eq!(log.locate(&Position::AfterOwn(b"a".to_vec())), LogPlace::At(7));
    assert!(matches!(read(&log, &mut slow, false).1, KeptRead::Behind));
    event(&log, "fourth, ", Some("a"));
    trim(&log, usize::MAX);
    assert_eq!(log.locate(&Position::AfterOwn(b"a".to_vec())), LogPlace::Behind);
    assert_eq!(log.locate(&Position::AfterOwn(b"b".to_vec())), LogPlace::At(15));
    // One that is larger than all.
    log.append(&[b'x'; 50], Vec::new());
    trim(&log, usize::MAX);
    assert_eq!(log.locate(&Position::After(4)), LogPlace::Behind);
    assert_eq!(log.extent().start, 60);
    let few = new_log(1000, 2);
    (0..5).for_each(|_| event(&few, "event;", None));
    trim(&few, usize::MAX);
    assert_eq!(few.locate(&Position::After(2)), LogPlace::Behind);
    assert_eq!(few.locate(&Position::After(3)), LogPlace::At(18));
}

#[test]
fn of_a_stream_that_is_lost_only_whole_events_count() {
    let log = new_log(1000, 1000);
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
    let log = new_log(64 << 10, 50_000);
    let text = "x".repeat(1000);
    for _ in 0..1000 {
        event(&log, &text, None);
        trim(&log, usize::MAX);
    }
    let memory = log.memory();
    assert!((64 << 10..90 << 10).contains(&memory), "{memory}");
    trim(&log, memory - (20 << 10));
    assert!(log.memory() <= memory - (20 << 10));
    assert!(log.memory() > memory - (40 << 10));
    trim(&log, 0);
    assert!(log.memory() <= 40 << 10, "{}", log.memory());
    assert_eq!(log.extent().last, 1000);
    assert_eq!(log.locate(&Position::After(1000)), LogPlace::At(1_000_000));
}

/// What is counted for events and for ids is given back with them.
#[test]
fn small_events_with_ids_do_not_use_up_what_later_ones_need() {
    let log = new_log(4 << 20, 50_000);
    for number in 0..200_000 {
        event(&log, "data;", Some(&format!("{number}")));
        if number % 100 == 0 {
            trim(&log, 64 << 10);
        }
    }
    trim(&log, 64 << 10);
    assert!(log.memory() <= 64 << 10, "{}", log.memory());
    assert!(log.extent().before < 199_900, "{:?}", log.extent());
    let newest = Position::AfterOwn(b"199990".to_vec());
    assert!(matches!(log.locate(&newest), LogPlace::At(_)));
    let forgotten = Position::AfterOwn(b"199000".to_vec());
    assert_eq!(log.locate(&forgotten), LogPlace::Behind);
}

/// The pump waits for whoever is nearest to the end and reads, and for nobody else.
#[tokio::test(start_paused = true)]
async fn who_reads_along_loses_nothing_and_who_stands_holds_nobody() {
    let moved = Arc::<tokio::sync::Notify>::default();
    let log = MemoryLog::new(20, 1000, Arc::clone(&moved));
    let trim = || log.trim(usize::MAX, PATIENCE);
    let (mut near, mut far) = (log.open(0), log.open(0));
    let began = tokio::time::Instant::now();
    event(&log, "first, ", None);
    event(&log, "second, ", None);
    assert_eq!((trim(), read(&log, &mut near, false).0), (None, "first, second, ".to_owned()));
    // It has read what goes.
    event(&log, "third, ", None);
    assert_eq!(trim(), None);
    assert!(matches!(read(&log, &mut far, false).1, KeptRead::Behind), "it was further off");
    assert_eq!(read(&log, &mut near, false).0, "third, ");
    tokio::time::advance(Duration::from_secs(20)).await;
    event(&log, "a long one that is more than all", None);
    let until = began + Duration::from_secs(20) + PATIENCE;
    assert_eq!(trim(), Some(until), "since it has something to read");
    assert_eq!(log.extent().start, 22);
    // As soon as it moves there may be room.
    let notified = moved.notified();
    assert!(matches!(
        log.poll_read(&mut near, &Context::from_waker(Waker::noop()), 5, false),
        KeptRead::Bytes(_)
    ));
    notified.await;
    assert_eq!(trim(), Some(until), "it has not read the event that would go");
    tokio::time::advance(PATIENCE).await;
    assert_eq!(trim(), None, "it stands");
    assert!(matches!(read(&log, &mut near, false).1, KeptRead::Behind));
    // One that is gone holds nobody.
    let last = log.open(log.extent().start);
    log.append(&[b'x'; 60], Vec::new());
    assert!(trim().is_some());
    let notified = moved.notified();
    log.close(&last);
    notified.await;
    assert_eq!(trim(), None);
}
