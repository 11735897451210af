use std::time::Duration;

use tokio::time::Instant;

use super::{History, RecordContent};
use crate::EntryId;
use crate::fleet::name::EventName;
use crate::subject::Subject;
use crate::{GapReason, HistorySettings};

fn history(count: usize) -> History {
    let settings = HistorySettings { count, bytes: 1000, age: Duration::from_secs(60) };
    History::new(settings, 0)
}

fn event() -> (RecordContent, EventName) {
    (RecordContent::Event(crate::tests::frame(1), Subject::of(0)), EventName::default())
}

fn gap(reason: GapReason) -> (RecordContent, EventName) {
    (RecordContent::Gap(reason), EventName::default())
}

#[test]
fn gaps_do_not_count_as_newest_events() {
    let now = Instant::now();
    let mut history = history(4);
    assert_eq!(history.number_before_newest(1), 0);
    for number in [2, 4, 6] {
        history.push(number, None, event(), now);
    }
    history.push(7, None, gap(GapReason::RedisAway), now);
    let starts = [0, 1, 2, 3, 9].map(|count| history.number_before_newest(count));
    assert_eq!(starts, [7, 4, 2, 0, 0]);
    history.push(8, None, event(), now);
    history.push(9, None, event(), now);
    assert_eq!(history.number_before_newest(9), 4, "what was dropped does not come back");
}

#[test]
fn records_of_a_log_are_found_by_their_ids() {
    let now = Instant::now();
    let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
    let mut history = history(3);
    history.begin_log(10, id(5));
    for (number, ms) in [(11, 6), (13, 8), (15, 9), (17, 12)] {
        history.push(number, Some(id(ms)), event(), now);
    }
    assert_eq!(history.log_complete_after(), id(6));
    for (ms, expected) in [(6, 11), (7, 11), (8, 13), (9, 15), (11, 15), (12, 17), (99, 17)] {
        assert_eq!(history.number_at(id(ms)), expected, "after {ms}");
    }
    assert_eq!(history.id_before_newest(1), Some(id(9)));
    assert_eq!(history.id_before_newest(3), Some(id(6)));
    assert_eq!(history.id_before_newest(4), None);
    history.evict();
    assert_eq!((history.log_complete_after(), history.held()), (id(12), 0));
}

#[test]
fn entries_that_vanished_are_known_after_an_eviction() {
    let now = Instant::now();
    let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
    let mut history = history(9);
    history.begin_log(10, id(5));
    for (number, ms) in [(11, 6), (12, 7), (13, 8)] {
        history.push(number, Some(id(ms)), event(), now);
    }
    history.roll_back(14, id(6), id(8));
    history.push(14, Some(id(6)), gap(GapReason::RolledBack), now);
    history.evict();
    history.push(15, Some(id(9)), event(), now);
    let vanished = [6, 7, 8, 9].map(|ms| history.has_vanished(id(ms)));
    assert_eq!(vanished, [false, true, true, false]);
}

#[test]
fn ids_of_a_log_that_was_begun_anew_are_known_until_the_new_one_has_them() {
    let now = Instant::now();
    let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
    let mut history = history(2);
    history.begin_log(10, id(5));
    history.reset_log(11, id(0), id(8));
    let vanished = |history: &History| [0, 1, 3, 4, 8, 9].map(|ms| history.has_vanished(id(ms)));
    assert_eq!(vanished(&history), [false, true, true, true, true, false]);
    for (number, ms) in [(12, 1), (13, 3), (14, 4)] {
        history.push(number, Some(id(ms)), event(), now);
    }
    // What was dropped last is an entry of the new log.
    assert_eq!(history.log_complete_after(), id(1));
    assert_eq!(vanished(&history), [false, false, false, false, true, false]);
    history.evict();
    assert_eq!(vanished(&history), [false, true, true, false, true, false]);
    // It may be begun anew right behind its newest entry.
    history.reset_log(15, id(9), id(9));
    assert_eq!(vanished(&history), [false, true, true, true, true, true]);
    for (number, ms) in [(16, 10), (17, 11), (18, 12)] {
        history.push(number, Some(id(ms)), event(), now);
    }
    assert!(!history.has_vanished(id(10)));
}

#[test]
fn what_is_over_a_narrower_bound_is_dropped_at_once() {
    let now = Instant::now();
    let mut history = history(100);
    for number in 1..=10 {
        history.push(number, None, event(), now);
    }
    let narrow = HistorySettings { count: 3, ..history.settings() };
    history.set_bounds(narrow, now);
    assert_eq!(history.number_before_newest(9), 7);
    history.set_bounds(HistorySettings { count: 5, ..narrow }, now);
    history.push(11, None, event(), now);
    assert_eq!(history.number_before_newest(9), 7, "what was dropped does not come back");
    history.set_bounds(narrow, now + Duration::from_secs(61));
    assert_eq!(history.number_before_newest(9), 11);
}

#[test]
fn a_history_whose_records_have_expired_holds_nothing_after_an_eviction() {
    let now = Instant::now();
    for mut history in [history(10), History::of_log(history(10).settings(), 0, EntryId::ZERO)] {
        for number in 1..=10 {
            let id = EntryId { milliseconds: number, sequence: 0 };
            history.push(number, Some(id), event(), now);
        }
        history.expire(now + Duration::from_secs(120));
        let complete_after = (history.complete_after(), history.log_complete_after());
        history.evict();
        assert_eq!(history.held(), 0);
        assert_eq!((history.complete_after(), history.log_complete_after()), complete_after);
    }
}

#[test]
fn memory_shrinks_with_the_number_of_records() {
    let now = Instant::now();
    let mut history = history(1000);
    for number in 0..500 {
        history.push(number, None, event(), now);
    }
    let full = history.held();
    history.expire(now + Duration::from_secs(120));
    assert!(history.held() < full / 50, "{} of {full}", history.held());
}
