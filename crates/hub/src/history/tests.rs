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
        assert_eq!(history.number_at(id(ms), 0), expected, "after {ms}");
    }
    assert_eq!(history.id_before_newest(1), Some(id(9)));
    assert_eq!(history.id_before_newest(3), Some(id(6)));
    assert_eq!(history.id_before_newest(4), None);
    history.evict();
    assert_eq!((history.log_complete_after(), history.held()), (id(12), 0));
}

/// A log that had the entries 6 to 8, lost 7 and 8, and has had 9 since; each has the number before it.
fn rolled_back(count: usize) -> History {
    let now = Instant::now();
    let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
    let mut history = history(count);
    history.begin_log(10, id(5));
    for (number, ms) in [(11, 6), (12, 7), (13, 8)] {
        history.push(number, Some(id(ms)), event(), now);
    }
    history.roll_back(13, id(6));
    history.push(14, Some(id(6)), gap(GapReason::RolledBack), now);
    history
}

#[test]
fn only_ids_of_records_are_known() {
    let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
    let mut history = rolled_back(9);
    history.push(15, Some(id(9)), event(), Instant::now());
    for (ms, is_known) in [(4, false), (5, true), (6, true), (7, false), (8, false), (9, true)] {
        assert_eq!(history.knows(id(ms), 0), is_known, "{ms}");
    }
}

#[test]
fn a_loss_follows_the_entry_after_which_the_log_went_on_until_a_stream_has_come_past_it() {
    let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
    let history = rolled_back(9);
    for (ms, reached, expected) in [(5, 0, 10), (6, 0, 11), (6, 13, 11), (6, 14, 14), (7, 0, 14)] {
        assert_eq!(history.number_at(id(ms), reached), expected, "{ms} {reached}");
    }
    for (ms, expected) in [(5, None), (6, Some(14)), (7, None)] {
        assert_eq!(history.loss_at(id(ms)), expected, "{ms}");
    }
}

#[test]
fn a_loss_that_is_no_longer_kept_is_known_until_another_record_is_dropped() {
    let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
    for is_evicted in [true, false] {
        let mut history = rolled_back(1);
        match is_evicted {
            true => history.evict(),
            false => history.push(15, Some(id(9)), event(), Instant::now()),
        }
        assert_eq!(history.log_complete_after(), id(6));
        assert_eq!([0, 13, 14].map(|number| history.knows(id(6), number)), [false, false, true]);
        assert_eq!(history.loss_at(id(6)), Some(14));
        history.push(16, Some(id(10)), event(), Instant::now());
        history.push(17, Some(id(11)), event(), Instant::now());
        assert!(history.knows(id(10), 0));
        assert_eq!(history.loss_at(id(10)), None);
    }
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
