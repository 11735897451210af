//! Channels whose source keeps their entries.

mod missing;
mod resume;

use std::time::Duration;

use ssegate_format::Format;
use ssegate_sse::Event;
use ssegate_sse::frame::Form;
use tokio::time::Instant;

use super::follow::{following, told};
use super::{TestHub, run, settle};
use crate::Topic;
use crate::position::log_positions::LogPositions;
use crate::{ChannelName, EntryId, Ids, Subscription};
use crate::{
    HistorySettings, HubSettings, LogRead, LogReadResult, SourceKind, SourceRequest,
    StreamSettings, Subscriber,
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
            self.hub.begin_log((SourceKind::Logs, name), id(newest));
        }
        self.hub.flush();
        settle().await;
    }

    async fn add(&self, entries: &[(&str, &str)]) {
        for (name, entry) in entries {
            self.hub.publish_entry((SourceKind::Logs, name), id(entry), Instant::now(), |_| {
                Some(event(entry))
            });
        }
        self.hub.flush();
        settle().await;
    }

    async fn log_read(&self) -> LogRead {
        let reads =
            tokio::time::timeout(Duration::from_secs(1), self.hub.log_reads(SourceKind::Logs))
                .await;
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
        test.hub.begin_message(b"news", None);
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
fn a_client_that_comes_after_a_log_began_between_two_copies_of_a_message_misses_none() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let (_plain, pattern) = (test.open(0, &["news"]), test.open(0, &["n*"]));
        let log = test.open_log(&["a"], None);
        settle().await;
        test.follow().await;
        drop(super::read(&pattern));
        test.hub.begin_message(b"news", None);
        test.hub.publish(false, "news", Instant::now(), |_| Some(event("1")));
        test.begin(&[("a", "5-0")]).await;
        assert!(read(&log).contains(": ready"));
        let early = super::read(&test.open(0, &["n*"]));
        assert!(early.contains("id: R-0\n: ready"), "{early}");
        test.hub.publish(true, "n*", Instant::now(), |_| Some(event("1")));
        test.hub.flush();
        settle().await;
        assert!(super::read(&pattern).contains("data: 1\nid: R-1"));
    });
}

#[test]
fn what_was_lost_while_nothing_was_followed_is_a_gap_also_among_entries() {
    run(async {
        let patterns = [("n*", Format::Raw), ("n?", Format::Raw)];
        let test = TestHub::new(1, following(&patterns, 9));
        let (_plain, _log) = (test.open(0, &["n1"]), test.open_log(&["a"], None));
        settle().await;
        test.follow().await;
        test.begin(&[("a", "5-0")]).await;
        test.hub.change(following(&[], 9));
        test.publish_copies("n2", &["n*", "n?"], "1").await;
        // Another copy of the message may follow; entries come on another connection.
        test.hub.begin_message(b"n1", None);
        test.copy("n*", "2");
        test.add(&[("a", "5-1")]).await;
        test.hub.change(following(&patterns, 9));
        let id = super::id_of(&test, 0);
        let back = test.open_with(0, &["n2"], Some(&id), StreamSettings::default());
        settle().await;
        assert_eq!(told(&back).await, Vec::<String>::new());
        test.hub.end_message();
        test.hub.flush();
        settle().await;
        assert_eq!(told(&back).await, ["expired"]);
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
        test.hub.begin_log((SourceKind::Logs, "b"), id("0-0"));
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
