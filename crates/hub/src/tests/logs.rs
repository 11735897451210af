use std::time::Duration;

use ssegate_format::Format;
use ssegate_sse::Event;
use ssegate_sse::frame::Form;
use tokio::time::Instant;

use super::{TestHub, run, settle};
use crate::Topic;
use crate::position::log_positions::LogPositions;
use crate::{ChannelName, EntryId, Ids, Subscription};
use crate::{
    GapReason, HistorySettings, HubSettings, LogRange, LogRead, LogReadResult, Replay, SourceKind,
    SourceRequest, StreamSettings, Subscriber, WhenFull,
};

pub(super) fn log(name: &str) -> Topic {
    let name = ChannelName::new(name).expect("a name");
    let subscription = Subscription { name, is_pattern: false };
    Topic { subscription, format: Format::Raw, ids: Ids::Entries }
}

fn id(text: &str) -> EntryId {
    EntryId::parse(text.as_bytes()).expect("an id")
}

fn event(data: &str) -> Event {
    Event { data: data.to_owned().into(), ..Event::default() }
}

/// The position of a client of the logs `a` and `b`, from one id of each: `1-0~2-5`.
fn position(ids: &str) -> String {
    let mut positions = LogPositions::unknown(["a", "b"].into_iter());
    for (log, entry) in ids.split('~').enumerate().filter(|(_, entry)| !entry.is_empty()) {
        positions.set(log, id(entry));
    }
    positions.text().expect("one is known")
}

/// A line of a stream, with positions in `a` and `b` as `1-0~2-5`.
fn readable(line: &str) -> String {
    let mut positions = LogPositions::unknown(["a", "b"].into_iter());
    match line.strip_prefix("id: .") {
        Some(text) if positions.read(format!(".{text}").as_bytes()) => {
            let ids =
                positions.iter().map(|entry| entry.map_or_else(String::new, |id| id.to_string()));
            format!("id: {}", ids.collect::<Vec<_>>().join("~"))
        }
        _ => line.to_owned(),
    }
}

/// What is queued for a subscriber, with positions in `a` and `b` as `1-0~2-5`.
pub(super) fn read(subscriber: &Subscriber) -> String {
    let mut text = String::new();
    let context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(bytes)) = subscriber.poll_next(Form::Text, &context) {
        text += str::from_utf8(&bytes).expect("text");
    }
    text.split('\n').map(readable).collect::<Vec<_>>().join("\n")
}

fn gap(position: &str, reason: &str, names: &str) -> String {
    format!(
        "event: gap\ndata: {{\"reason\":\"{reason}\",\"channels\":[{names}]}}\nid: {position}\n\n"
    )
}

impl TestHub {
    fn follow_logs(
        &self,
        names: &[&str],
        last: Option<&str>,
        settings: StreamSettings,
    ) -> Subscriber {
        let topics = names.iter().map(|name| log(name)).collect();
        let history = HistorySettings { count: 3, ..HistorySettings::default() };
        self.open_topics(0, topics, last, settings, history)
    }

    fn open_log(&self, names: &[&str], last: Option<&str>) -> Subscriber {
        self.follow_logs(names, last, StreamSettings::default())
    }

    async fn begin(&self, logs: &[(&str, &str)]) {
        settle().await;
        let followed: Vec<_> = self.hub.source_requests(SourceKind::Logs).await.collect();
        assert!(followed.iter().all(|(_, request)| *request == SourceRequest::Follow));
        for (name, newest) in logs {
            assert!(followed.iter().any(|(known, _)| known.name.as_str() == *name));
            self.hub.begin_log(name, id(newest));
        }
        self.hub.flush();
        settle().await;
    }

    async fn add(&self, entries: &[(&str, &str)]) {
        for (name, entry) in entries {
            self.hub.publish_entry(name, id(entry), Instant::now(), |_| Some(event(entry)));
        }
        self.hub.flush();
        settle().await;
    }

    async fn log_read(&self) -> LogRead {
        let reads = tokio::time::timeout(Duration::from_secs(1), self.hub.log_reads()).await;
        let mut reads = reads.expect("a request");
        let read = reads.next().expect("a request");
        assert!(reads.next().is_none());
        read
    }

    async fn finish_read(&self, read: &LogRead, result: LogReadResult) {
        self.hub.finish_log_read(read.key(), result);
        self.hub.flush();
        settle().await;
    }
}

fn entries(entries: &[&str], is_all: bool) -> LogReadResult {
    let entries = entries.iter().map(|entry| (id(entry), Some(event(entry)))).collect();
    LogReadResult::Entries { gap: None, entries, is_all }
}

#[test]
fn entries_have_the_ids_of_their_log() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_log(&["a"], None);
        assert_eq!(read(&stream), ":\nretry: 3000\n");
        test.begin(&[("a", "5-0")]).await;
        assert_eq!(read(&stream), "id: 5-0\n: ready\n\n");
        test.add(&[("a", "5-1"), ("other", "1-1"), ("a", "7-0"), ("a", "7-0")]).await;
        assert_eq!(read(&stream), "data: 5-1\nid: 5-1\n\ndata: 7-0\nid: 7-0\n\n");
        let late = test.open_log(&["a"], None);
        assert_eq!(read(&late), ":\nretry: 3000\nid: 7-0\n: ready\n\n");
    });
}

#[test]
fn a_second_format_of_a_channel_that_is_opened_among_entries_has_a_gap() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let (raw, log) = (test.open(0, &["news"]), test.open_log(&["a"], None));
        settle().await;
        test.follow().await;
        test.begin(&[("a", "5-0")]).await;
        drop((super::read(&raw), read(&log)));
        // Another copy of the message may follow; entries come on another connection.
        test.hub.begin_message(b"news");
        test.hub.publish(false, "news", Instant::now(), |_| Some(event("missed")));
        test.add(&[("a", "5-1"), ("a", "5-2")]).await;

        let news = Topic { format: Format::Envelope, ..super::topic("news") };
        let (id, history) = (super::id_of(&test, 0), HistorySettings::default());
        let back = test.open_topics(0, vec![news], Some(&id), StreamSettings::default(), history);
        // The past is requested when the stream is read.
        assert_eq!(super::read(&back), ":\nretry: 3000");
        settle().await;
        let text = super::read(&back);
        let gap = r#"data: {"reason":"expired","channels":["news"]}"#;
        assert!(text.contains(gap) && text.contains(": ready"), "{text}");
        assert!(text.find(gap) < text.find(": ready"), "{text}");
    });
}

#[test]
fn an_id_in_several_logs_is_a_position_in_each() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_log(&["a", "b"], None);
        drop(read(&stream));
        test.begin(&[("a", "5-0")]).await;
        test.add(&[("a", "6-0")]).await;
        assert_eq!(read(&stream), "data: 6-0\nid: 6-0~\n\n", "it has no position in b yet");
        test.hub.begin_log("b", id("0-0"));
        test.hub.flush();
        settle().await;
        assert_eq!(read(&stream), "id: 6-0~0-0\n: ready\n\n");
        test.add(&[("b", "1-1"), ("a", "7-0")]).await;
        assert_eq!(read(&stream), "data: 1-1\nid: 6-0~1-1\n\ndata: 7-0\nid: 7-0~1-1\n\n");

        // The client may name them in any order.
        let back = test.open_log(&["b", "a"], Some(&position("6-0~0-0")));
        drop(read(&back));
        settle().await;
        assert_eq!(
            read(&back),
            "data: 1-1\nid: 6-0~1-1\n\ndata: 7-0\nid: 7-0~1-1\n\nid: 7-0~1-1\n: ready\n\n"
        );
    });
}

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
fn entries_that_the_source_finds_missing_are_one_gap() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let back = test.open_log(&["a"], Some("3-0"));
        drop(read(&back));
        test.begin(&[("a", "10-0")]).await;
        let request = test.log_read().await;
        let gap_at = Some((GapReason::Trimmed, id("8-0")));
        let entries = vec![(id("9-0"), Some(event("9-0"))), (id("10-0"), None)];
        test.finish_read(&request, LogReadResult::Entries { gap: gap_at, entries, is_all: true })
            .await;
        let first = gap("8-0", "trimmed", "\"a\"") + "data: 9-0\nid: 9-0\n\n";
        assert_eq!(read(&back), first + &gap("10-0", "too_large", "\"a\""));
        settle().await;
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
                    test.hub.publish_entry("a", id(entry), Instant::now(), |_| None);
                }
                _ => test.hub.log_gap("a", reason, id(entry)),
            };
            missing("11-0");
            test.add(&[("a", "12-0"), ("a", "13-0")]).await;
            assert_eq!(read(&back), "data: 13-0\nid: 13-0\n\n");
            missing("14-0");
            test.add(&[("a", "15-0")]).await;
            let at_14 = gap("14-0", reason.as_str(), "\"a\"");
            assert_eq!(read(&back), at_14 + "data: 15-0\nid: 15-0\n\n");
            // Found out with the entry after those that are missing.
            test.hub.log_gap("a", GapReason::Trimmed, id("15-0"));
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
fn a_log_that_was_begun_anew_has_a_gap_and_goes_on_with_lower_ids() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_log(&["a"], None);
        test.begin(&[("a", "10-0")]).await;
        test.add(&[("a", "11-0")]).await;
        drop(read(&stream));
        // A client whose page of the old log is being read.
        let back = test.open_log(&["a"], Some("3-0"));
        drop(read(&back));
        settle().await;
        let request = test.log_read().await;
        test.hub.log_gap("a", GapReason::Reset, EntryId::ZERO);
        test.add(&[("a", "1-0")]).await;
        assert_eq!(read(&stream), gap("0-0", "reset", "\"a\"") + "data: 1-0\nid: 1-0\n\n");
        let reset = Some((GapReason::Reset, EntryId::ZERO));
        test.finish_read(
            &request,
            LogReadResult::Entries { gap: reset, entries: vec![], is_all: true },
        )
        .await;
        assert_eq!(read(&back), gap("0-0", "reset", "\"a\""));
        settle().await;
        assert_eq!(read(&back), "data: 1-0\nid: 1-0\n\nid: 1-0\n: ready\n\n");
    });
}

#[test]
fn a_client_that_was_away_while_its_log_was_begun_anew_has_a_gap() {
    run(async {
        for (begun_at, newest) in [("0-0", "9-0"), ("0-0", "3-0"), ("6-0", "9-0")] {
            let test = TestHub::new(1, HubSettings::default());
            let stream = test.open_log(&["a"], None);
            test.begin(&[("a", "4-0")]).await;
            test.add(&[("a", "5-0"), ("a", "6-0")]).await;
            test.hub.log_gap("a", GapReason::Reset, id(begun_at));
            test.add(&[("a", newest)]).await;
            drop(read(&stream));
            for last in ["5-0", "6-0"] {
                let back = test.open_log(&["a"], Some(last));
                drop(read(&back));
                settle().await;
                let request = test.log_read().await;
                let range = LogRange::After { after: id(last), until: id(begun_at) };
                assert_eq!(request.range, range);
                let gap_at = Some((GapReason::Reset, EntryId::ZERO));
                let result = LogReadResult::Entries { gap: gap_at, entries: vec![], is_all: false };
                test.finish_read(&request, result).await;
                assert_eq!(read(&back), gap("0-0", "reset", "\"a\""));
                settle().await;
                if begun_at != "0-0" {
                    let request = test.log_read().await;
                    test.finish_read(&request, entries(&[], true)).await;
                }
                let expected = format!("data: {newest}\nid: {newest}\n\nid: {newest}\n: ready\n\n");
                assert_eq!(read(&back), expected, "after {last}");
            }
            // A client of the new log.
            let informed = test.open_log(&["a"], Some(newest));
            drop(read(&informed));
            settle().await;
            assert_eq!(read(&informed), format!("id: {newest}\n: ready\n\n"));
        }
    });
}

#[test]
fn a_log_restored_from_an_older_state_has_one_gap_and_goes_on_at_its_end() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_log(&["a"], None);
        test.begin(&[("a", "10-0")]).await;
        test.add(&[("a", "11-0"), ("a", "12-0"), ("a", "13-0")]).await;
        drop(read(&stream));
        // A client that has not come so far.
        let back = test.open_log(&["a"], Some("3-0"));
        drop(read(&back));
        settle().await;
        let request = test.log_read().await;
        test.hub.log_gap("a", GapReason::RolledBack, id("11-0"));
        test.add(&[("a", "14-0")]).await;
        assert_eq!(read(&stream), gap("11-0", "rolled_back", "\"a\"") + "data: 14-0\nid: 14-0\n\n");
        test.finish_read(&request, entries(&["10-0"], true)).await;
        let mut text = read(&back);
        settle().await;
        text += &read(&back);
        assert_eq!(
            text,
            "data: 10-0\nid: 10-0\n\ndata: 11-0\nid: 11-0\n\n".to_owned()
                + &gap("11-0", "rolled_back", "\"a\"")
                + "data: 14-0\nid: 14-0\n\nid: 14-0\n: ready\n\n"
        );

        // For an id that has vanished, the source knows where the log goes on; a client that was sent the
        // gap is not sent it again.
        let late = test.open_log(&["a"], Some("12-0"));
        drop(read(&late));
        settle().await;
        let request = test.log_read().await;
        assert!(matches!(request.range, LogRange::After { after, .. } if after == id("12-0")));
        let rolled_back = Some((GapReason::RolledBack, id("11-0")));
        let result = LogReadResult::Entries { gap: rolled_back, entries: vec![], is_all: false };
        test.finish_read(&request, result).await;
        let mut text = read(&late);
        settle().await;
        text += &read(&late);
        assert_eq!(
            text,
            gap("11-0", "rolled_back", "\"a\"") + "data: 14-0\nid: 14-0\n\nid: 14-0\n: ready\n\n"
        );
        let informed = test.open_log(&["a"], Some("11-0"));
        drop(read(&informed));
        settle().await;
        assert_eq!(read(&informed), "data: 14-0\nid: 14-0\n\nid: 14-0\n: ready\n\n");
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
fn a_lost_connection_is_no_gap_in_a_log() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_log(&["a"], None);
        test.begin(&[("a", "10-0")]).await;
        drop(read(&stream));
        test.hub.lose();
        settle().await;
        test.hub.restored();
        test.add(&[("a", "11-0")]).await;
        assert_eq!(read(&stream), "data: 11-0\nid: 11-0\n\n");
        let late = test.open_log(&["a"], None);
        assert_eq!(read(&late), ":\nretry: 3000\nid: 11-0\n: ready\n\n");
    });
}

#[test]
fn a_gap_for_dropped_entries_has_the_position_behind_them() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let settings = StreamSettings {
            max_queue_bytes: 80,
            when_full: WhenFull::DropOldest,
            ..StreamSettings::default()
        };
        let slow = test.follow_logs(&["a", "b"], None, settings);
        test.begin(&[("a", "1-0"), ("b", "1-0")]).await;
        drop(read(&slow));
        test.add(&[("a", "2-0"), ("b", "3-0"), ("a", "4-0")]).await;
        assert_eq!(
            read(&slow),
            gap("2-0~1-0", "overflow", "\"a\",\"b\"")
                + "data: 3-0\nid: 2-0~3-0\n\ndata: 4-0\nid: 4-0~3-0\n\n"
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
            test.hub.publish_entry("a", id, Instant::now(), |_| Some(event("x")));
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
