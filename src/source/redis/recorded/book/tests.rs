use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::{ChannelName, Hub, HubSettings, Subscription};
use ssegate_record::{AppendAnswer, LogItem, RecordId};
use ssegate_resp::Payload;
use tokio::time::Instant;

use super::{RecordBook, RecordMemory, RecordOrder};
use crate::metrics::Metrics;

/// What the log has after an answer.
fn top(mark: u64, k: u64) -> AppendAnswer {
    AppendAnswer { top: RecordId { mark, k }, is_missing: false }
}

fn name(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a name")
}

/// A book that follows `a:*` with so much memory, and when it began.
fn following(max_waiting_bytes: usize) -> (RecordBook, Instant) {
    let (hub, _links) = Hub::new(HubSettings::default(), 1, ());
    let metrics = Metrics::new().expect("metrics");
    let memory = RecordMemory::new(max_waiting_bytes);
    let mut book = RecordBook::new(hub, metrics, (RecordOrder::Server, memory));
    book.change_patterns(vec![name("a:*")]);
    let now = Instant::now();
    book.confirm(&Subscription { name: name("a:*"), is_pattern: true }, now);
    (book, now)
}

/// The book publishes a mark, and it comes back.
fn own_mark(book: &mut RecordBook, mark: u64, now: Instant) {
    let text = format!("{mark} {}", book.members.own());
    book.receive_mark(&text, now);
}

fn publish(book: &mut RecordBook, channel: &str, length: usize, now: Instant) {
    let payload = Payload::Whole(Bytes::from(vec![b'x'; length]));
    book.receive(Some("a:*"), channel, &payload, now);
}

/// Sends the requests that are due, of which there is one. Returns from where on it is whole, and its messages.
fn request(book: &mut RecordBook, now: Instant) -> (RecordId, usize) {
    let mut requests = book.requests(now);
    assert_eq!(requests.len(), 1, "{requests:?}");
    let (_, request) = requests.remove(0);
    let is_message = |item: &&(RecordId, _)| matches!(item.1, LogItem::Message(_));
    (request.since, request.items.iter().filter(is_message).count())
}

/// Messages that were dropped.
fn dropped(book: &RecordBook) -> u64 {
    let text = book.metrics.render().expect("metrics");
    let line = text.lines().find_map(|line| line.strip_prefix("ssegate_recorded_dropped_total "));
    line.and_then(|count| count.parse().ok()).expect("a number")
}

#[test]
fn what_was_dropped_of_a_channel_that_a_pattern_brings_is_a_gap() {
    let (mut book, now) = following(1000);
    let base = 1_764_511_200_000;
    let at = |mark: u64| base + mark;
    own_mark(&mut book, at(0), now);
    publish(&mut book, "a:1", 1, now);
    assert_eq!(request(&mut book, now), (RecordId::start(at(0)), 1));
    book.answered(&name("a:1"), top(at(0), 1), now);
    own_mark(&mut book, at(1), now);
    assert!(book.channels.is_empty(), "the log has all of it");
    // More than the memory holds.
    publish(&mut book, "a:1", 2000, now);
    publish(&mut book, "a:1", 1, now);
    assert_eq!(book.waiting_bytes, 0, "it was dropped");
    assert_eq!(dropped(&book), 2);
    own_mark(&mut book, at(2), now);
    own_mark(&mut book, at(3), now);
    assert_eq!(request(&mut book, now), (RecordId::start(at(2)), 0), "it has to be a gap");
    // Others do not have it either: there is a gap at the mark.
    book.answered(&name("a:1"), top(at(2), 0), now);
    own_mark(&mut book, at(4), now);
    assert!(book.channels.is_empty(), "the gap is there");
    publish(&mut book, "a:1", 1, now);
    let (since, messages) = request(&mut book, now);
    assert!(since <= RecordId::start(at(2)) && messages == 1);
}

#[test]
fn a_busy_channel_pushes_out_nothing_of_a_quiet_one() {
    let (mut book, now) = following(4000);
    own_mark(&mut book, 1_764_511_200_000, now);
    publish(&mut book, "a:quiet", 100, now);
    (0..3).for_each(|_| publish(&mut book, "a:busy", 1000, now));
    assert_eq!((book.waiting_of(&name("a:busy")), dropped(&book)), (3, 0));
    // It is the last to come, and there is no room.
    (0..3).for_each(|_| publish(&mut book, "a:quiet", 100, now));
    assert_eq!([book.waiting_of(&name("a:busy")), book.waiting_of(&name("a:quiet"))], [0, 4]);
    assert_eq!(dropped(&book), 3);
}

#[test]
fn a_log_of_another_order_of_marks_begins_what_a_pattern_brings_anew() {
    let (mut book, now) = following(1 << 20);
    let base = 1_764_511_200_000;
    own_mark(&mut book, base, now);
    publish(&mut book, "a:1", 1, now);
    request(&mut book, now);
    // The log is of marks that never came here.
    book.answered(&name("a:1"), top(base + 500, 1), now);
    own_mark(&mut book, base + 501, now);
    own_mark(&mut book, base + 502, now);
    assert!(book.channels.is_empty());
    let later = now + Duration::from_secs(1);
    publish(&mut book, "a:1", 1, later);
    assert_eq!(request(&mut book, later), (RecordId::start(base + 501), 1));
}

#[test]
fn a_mark_of_the_far_future_names_nothing() {
    let (mut book, now) = following(1 << 20);
    let time = 1_764_511_200_000;
    book.note_redis_time(time);
    for forged in ["9007199254740992000 x", "18446744073709551616 x", "1764597600001 x"] {
        book.receive_mark(forged, now);
        assert!(!book.has_mark(), "{forged}");
    }
    // Neither does a log that ends there raise the next mark.
    own_mark(&mut book, time, now);
    publish(&mut book, "a:1", 1, now);
    request(&mut book, now);
    book.answered(&name("a:1"), top(9_007_199_254_740_992_000, 1), now);
    let later = now + Duration::from_secs(3);
    let (floor, _) = book.take_mark(later).expect("one is due");
    assert_eq!(floor, time);
    // A day ahead is possible: a clock went back.
    book.receive_mark("1764597600000 x", later);
    assert_eq!(book.timeline.newest(), Some(1_764_597_600_000));
    // It went back by more: the next mark is not above that one, nor is the one after it asked for at once.
    book.note_redis_time(time - 1);
    book.take_mark(later + Duration::from_secs(1));
    own_mark(&mut book, time - 1, later + Duration::from_secs(1));
    assert!(book.take_mark(later + Duration::from_secs(2)).is_none());
}

#[test]
fn a_mark_that_failed_is_asked_for_again_with_its_names() {
    let (mut book, now) = following(1 << 20);
    book.ask(&name("b"), now);
    let soon = now + Duration::from_millis(10);
    let (_, text) = book.take_mark(soon).expect("one is due");
    assert!(text.ends_with("\nb"), "{text}");
    // The connection was lost.
    book.mark_failed(&text, false, soon);
    let soon = soon + Duration::from_millis(10);
    assert_eq!(book.take_mark(soon).map(|(_, text)| text).as_ref(), Some(&text));
    // Redis refused it.
    book.mark_failed(&text, true, soon);
    assert_eq!(book.take_mark(soon + Duration::from_secs(1)), None);
    assert_eq!(book.take_mark(soon + Duration::from_secs(3)).map(|(_, text)| text), Some(text));
}

#[test]
fn a_gateway_that_exits_says_up_to_where_the_logs_are_whole() {
    let (mut book, now) = following(1 << 20);
    let base = 1_764_511_200_000;
    own_mark(&mut book, base, now);
    publish(&mut book, "a:1", 1, now);
    request(&mut book, now);
    book.answered(&name("a:1"), top(base, 1), now);
    publish(&mut book, "a:2", 1, now);
    assert!(!book.is_closed());
    book.close(now);
    let soon = now + Duration::from_millis(10);
    assert!(book.take_mark(soon).is_some(), "it is due");
    assert!(!book.is_closed());
    own_mark(&mut book, base + 9, soon);
    let mut requests = book.requests(soon);
    requests.sort_by(|one, other| one.0.cmp(&other.0));
    let newest: Vec<_> = requests.iter().map(|(_, request)| request.items.last()).collect();
    let seal = (RecordId::start(base + 9), LogItem::Seal);
    assert_eq!(newest, [Some(&seal), Some(&seal)]);
    book.answered(&name("a:1"), top(base + 9, 0), soon);
    assert!(!book.is_closed());
    // What comes later is for others.
    publish(&mut book, "a:1", 1, soon);
    book.answered(&name("a:2"), top(base + 9, 0), soon);
    assert!(book.is_closed());
}

#[test]
fn no_log_begins_with_a_gap_because_a_gateway_exits() {
    let (mut book, now) = following(1 << 20);
    let base = 1_764_511_200_000;
    own_mark(&mut book, base, now);
    // A client comes, and nothing was ever published.
    book.follow(&name("a:1"));
    book.close(now);
    own_mark(&mut book, base + 9, now);
    let later = now + Duration::from_secs(5);
    assert!(book.requests(later).iter().all(|(_, request)| !request.may_gap));
    book.answered(&name("a:1"), AppendAnswer { top: RecordId::default(), is_missing: true }, later);
    assert!(book.is_closed());
}

#[test]
fn a_mark_says_up_to_where_a_gateway_has_appended_everything() {
    let (mut book, now) = following(1 << 20);
    let base = 1_764_511_200_000;
    let soon = now + Duration::from_secs(3);
    own_mark(&mut book, base, now);
    let (_, text) = book.take_mark(soon).expect("one is due");
    assert!(text.ends_with(&format!("\n\t{base}")), "{text:?}");
    publish(&mut book, "a:1", 1, now);
    own_mark(&mut book, base + 5, now);
    let later = soon + Duration::from_secs(3);
    let (_, text) = book.take_mark(later).expect("one is due");
    assert!(text.ends_with(&format!("\n\t{base}")), "the message waits: {text:?}");
    // The first message ever does not wait for a gateway that has nothing older.
    book.receive_mark(&format!("{} other\n\t{}", base + 6, base + 5), later);
    request(&mut book, later);
    book.answered(&name("a:1"), AppendAnswer { top: RecordId::default(), is_missing: true }, later);
    let again = later + Duration::from_millis(150);
    let requests = book.requests(again);
    assert!(requests.len() == 1 && requests[0].1.may_gap, "{requests:?}");
}

#[test]
fn what_waits_for_older_messages_is_bounded_with_all_that_is_held() {
    let (mut book, now) = following(3000);
    let base = 1_764_511_200_000;
    own_mark(&mut book, base, now);
    for channel in ["a:1", "a:2"] {
        book.follow(&name(channel));
    }
    // It missed something, which has to be read first.
    book.lose();
    book.confirm(&Subscription { name: name("a:*"), is_pattern: true }, now);
    own_mark(&mut book, base + 5, now);
    assert_eq!(book.take_reads(2, now).len(), 2);
    publish(&mut book, "a:1", 400, now);
    publish(&mut book, "a:2", 400, now);
    let held: usize = book.channels.values().map(|channel| channel.held).sum();
    assert_eq!(book.held_bytes(), 2 * held, "to be appended, and to be delivered");
    // The log has them; they still wait to be delivered.
    request_all(&mut book, now);
    book.answered(&name("a:1"), top(base + 5, 1), now);
    book.answered(&name("a:2"), top(base + 5, 1), now);
    assert_eq!(book.held_bytes(), held);
    for _ in 0..5 {
        publish(&mut book, "a:1", 400, now);
    }
    assert!(book.held_bytes() <= 3000, "{}", book.held_bytes());
    let is_held = |book: &RecordBook, channel| book.channels[channel].catch_up.is_some();
    assert!(!is_held(&book, "a:1") && is_held(&book, "a:2"), "one was given up");
    book.lose();
    assert_eq!(book.held_back_bytes, 0);
}

fn request_all(book: &mut RecordBook, now: Instant) {
    assert_eq!(book.requests(now).len(), 2);
}
