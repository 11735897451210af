//! What a client of logs is sent that comes back with an id, or without one.

use std::time::Duration;

use tokio::time::Instant;

use super::{entries, event, gap, id, read};
use crate::SourceKind;
use crate::tests::{TestHub, run, settle};
use crate::{EntryId, GapReason, HubSettings, LogRange, LogReadResult, Replay, StreamSettings};

#[test]
fn entries_that_the_history_no_longer_has_are_read_again() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open_log(&["a"], None);
        test.begin(&[("a", "10-0")]).await;
        test.add(&[("a", "11-0"), ("a", "12-0"), ("a", "13-0"), ("a", "14-0")]).await;
        drop(first);
        let back = test.open_log(&["a"], Some("3-0"));
        drop(read(&back));
        settle().await;
        let request = test.log_read().await;
        let range = LogRange::After { after: id("3-0"), until: id("11-0") };
        assert_eq!((request.log.as_str(), request.range), ("a", range));
        // The log grows meanwhile.
        test.add(&[("a", "15-0")]).await;
        test.finish_read(&request, entries(&["4-0", "5-0"], false)).await;
        assert_eq!(read(&back), "data: 4-0\nid: 4-0\n\ndata: 5-0\nid: 5-0\n\n");
        settle().await;
        let request = test.log_read().await;
        let range = LogRange::After { after: id("5-0"), until: id("12-0") };
        assert_eq!(request.range, range);
        test.finish_read(&request, entries(&["11-0", "12-0"], true)).await;
        assert_eq!(read(&back), "data: 11-0\nid: 11-0\n\ndata: 12-0\nid: 12-0\n\n");
        settle().await;
        assert_eq!(
            read(&back),
            "data: 13-0\nid: 13-0\n\ndata: 14-0\nid: 14-0\n\ndata: 15-0\nid: 15-0\n\n\
             id: 15-0\n: ready\n\n"
        );
        test.add(&[("a", "16-0")]).await;
        assert_eq!(read(&back), "data: 16-0\nid: 16-0\n\n");
    });
}

#[test]
fn a_client_that_comes_back_before_the_log_has_begun_waits_for_it() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let back = test.open_log(&["a"], Some("3-0"));
        drop(read(&back));
        let gone = test.open_log(&["a"], Some("4-0"));
        drop(read(&gone));
        settle().await;
        drop(gone);
        test.begin(&[("a", "10-0")]).await;
        let request = test.log_read().await;
        assert_eq!(request.range, LogRange::After { after: id("3-0"), until: id("10-0") });
        test.finish_read(&request, entries(&[], true)).await;
        assert_eq!(read(&back), "id: 10-0\n: ready\n\n");
    });
}

#[test]
fn a_client_ahead_of_this_gateway_gets_nothing_twice() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let back = test.open_log(&["a"], Some("12-0"));
        drop(read(&back));
        test.begin(&[("a", "10-0")]).await;
        let request = test.log_read().await;
        assert_eq!(request.range, LogRange::After { after: id("12-0"), until: id("10-0") });
        test.finish_read(&request, entries(&[], true)).await;
        assert_eq!(read(&back), "id: 12-0\n: ready\n\n");
        test.add(&[("a", "11-0"), ("a", "12-0"), ("a", "13-0")]).await;
        assert_eq!(read(&back), "data: 13-0\nid: 13-0\n\n");
    });
}

#[test]
fn a_client_ahead_of_this_gateway_is_not_sent_a_gap_that_it_is_past() {
    run(async {
        for reason in [GapReason::TooLarge, GapReason::Trimmed] {
            let test = TestHub::new(1, HubSettings::default());
            let back = test.open_log(&["a"], Some("12-0"));
            drop(read(&back));
            test.begin(&[("a", "10-0")]).await;
            let request = test.log_read().await;
            test.finish_read(&request, entries(&[], true)).await;
            assert_eq!(read(&back), "id: 12-0\n: ready\n\n");
            let missing = |entry| match reason {
                GapReason::TooLarge => {
                    test.hub.publish_entry(
                        (SourceKind::Logs, "a"),
                        id(entry),
                        Instant::now(),
                        |_| None,
                    );
                }
                _ => test.hub.log_gap((SourceKind::Logs, "a"), reason, id(entry)),
            };
            missing("11-0");
            test.add(&[("a", "12-0"), ("a", "13-0")]).await;
            assert_eq!(read(&back), "data: 13-0\nid: 13-0\n\n");
            missing("14-0");
            test.add(&[("a", "15-0")]).await;
            let at_14 = gap("14-0", reason.as_str(), "\"a\"");
            assert_eq!(read(&back), at_14 + "data: 15-0\nid: 15-0\n\n");
            // Found out with the entry after those that are missing.
            test.hub.log_gap((SourceKind::Logs, "a"), GapReason::Trimmed, id("15-0"));
            test.hub.flush();
            settle().await;
            assert_eq!(read(&back), gap("15-0", "trimmed", "\"a\""));
        }
    });
}

#[test]
fn a_client_with_an_unknown_id_gets_a_gap_and_live_entries() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open_log(&["a", "b"], None);
        test.begin(&[("a", "1-0"), ("b", "2-0")]).await;
        drop(first);
        let long = "9".repeat(4096);
        for last in ["abcdef-1", "5-0", "1-0~2-0~3-0", "1-0~99999999999999999999999-0", &long] {
            let back = test.open_log(&["a", "b"], Some(last));
            drop(read(&back));
            settle().await;
            let expected = gap("1-0~2-0", "unknown_id", "\"a\",\"b\"");
            assert_eq!(read(&back), expected + "id: 1-0~2-0\n: ready\n\n", "{last}");
        }
    });
}

#[test]
fn a_client_without_an_id_is_sent_the_newest_entries() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open_log(&["a"], None);
        test.begin(&[("a", "10-0")]).await;
        test.add(&[("a", "11-0"), ("a", "12-0")]).await;
        drop(first);
        let open = |replay| {
            test.follow_logs(&["a"], None, StreamSettings { replay, ..StreamSettings::default() })
        };
        let last = open(Replay::Newest(1));
        drop(read(&last));
        settle().await;
        assert_eq!(read(&last), "data: 12-0\nid: 12-0\n\nid: 12-0\n: ready\n\n");

        let more = open(Replay::Newest(3));
        drop(read(&more));
        settle().await;
        let request = test.log_read().await;
        assert_eq!(request.range, LogRange::BeforeNewest(3));
        test.finish_read(&request, LogReadResult::Start(id("9-0"))).await;
        let request = test.log_read().await;
        assert_eq!(request.range, LogRange::After { after: id("9-0"), until: id("10-0") });
        test.finish_read(&request, entries(&["10-0"], true)).await;
        assert_eq!(read(&more), "data: 10-0\nid: 10-0\n\n");
        settle().await;
        assert_eq!(
            read(&more),
            "data: 11-0\nid: 11-0\n\ndata: 12-0\nid: 12-0\n\nid: 12-0\n: ready\n\n"
        );
    });
}

#[test]
fn a_shard_that_fell_behind_reads_its_logs_again() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let settings = StreamSettings { max_queue_bytes: 1 << 30, ..StreamSettings::default() };
        let stream = test.follow_logs(&["a"], None, settings);
        test.begin(&[("a", "0-0")]).await;
        drop(read(&stream));
        // The shard does not run meanwhile, and three are kept.
        for number in 1..=70_000 {
            let id = EntryId { milliseconds: number, sequence: 0 };
            test.hub
                .publish_entry((SourceKind::Logs, "a"), id, Instant::now(), |_| Some(event("x")));
            if number % 500 == 0 {
                test.hub.flush();
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let text = read(&stream);
        assert!(!text.contains("gap"), "nothing is lost");
        let last = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
        let last = id(last.expect("some were delivered"));
        settle().await;
        let request = test.log_read().await;
        assert_eq!(request.range, LogRange::After { after: last, until: id("69997-0") });
        test.finish_read(&request, entries(&[], true)).await;
        let text = read(&stream);
        assert!(text.contains("id: 69998-0\n") && text.ends_with("id: 70000-0\n\n"), "{text}");
        assert!(!text.contains("ready"), "it was ready before");
    });
}

#[test]
fn nobody_awaits_what_was_read_or_whose_client_has_left() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let first = test.open_log(&["a"], None);
        test.begin(&[("a", "10-0")]).await;
        test.add(&[("a", "11-0")]).await;
        drop(first);
        for is_leaving in [false, true] {
            let back = test.open_log(&["a"], Some("3-0"));
            drop(read(&back));
            settle().await;
            let request = test.log_read().await;
            assert!(test.hub.awaits_log_read(request.key()));
            if is_leaving {
                drop(back);
                settle().await;
            } else {
                test.finish_read(&request, entries(&["4-0"], true)).await;
            }
            assert!(!test.hub.awaits_log_read(request.key()));
        }
    });
}
