//! What the next process is given: as bytes, and what it makes of them.

use std::time::Duration;

use ssegate_format::Format;
use tokio::time::Instant;

use super::follow::{self, following, read_all, told};
use super::{TestHub, run, settle};
use crate::{Continued, FollowedPattern, HubSettings, InvalidSnapshot, OrderId, Snapshot};

fn bytes_of(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot.write(Instant::now(), &mut bytes).expect("a buffer takes all");
    bytes
}

fn mark(test: &TestHub, mark: u8) {
    assert!(
        test.hub
            .in_order(OrderId::PLAIN)
            .receive_for_all(format!(r#"{{"mark":"{mark:016x}"}}"#).as_bytes())
    );
}

/// A hub that has heard a mark, and messages behind it on a channel, through a pattern, and one that was too
/// large.
async fn some() -> TestHub {
    let test = TestHub::new(1, HubSettings::default());
    test.hub.in_order(OrderId::PLAIN).begin(true);
    let _streams = [test.open(0, &["a"]), test.open(0, &["p*"])];
    settle().await;
    test.follow().await;
    test.hub.restored();
    mark(&test, 1);
    test.publish_all(&[("a", "1"), ("a", "2")]).await;
    test.publish_copies("px", &["p*"], "3").await;
    test.hub.begin_message(b"a", None);
    test.hub.skip(false, "a");
    mark(&test, 2);
    test.publish("a", "4").await;
    test
}

#[test]
fn a_snapshot_reads_back_as_it_was_written() {
    run(async {
        let now = Instant::now();
        let written = bytes_of(&some().await.hub.snapshot(usize::MAX));
        let text = String::from_utf8(written.clone()).expect("text");
        assert!(text.ends_with("\n\nend\n") && text.contains("too_large"), "{text}");
        let read = Snapshot::read(&written, now).expect("written so");
        assert_eq!((read.channels(), read.newest), (2, 7), "{text}");
        let mut again = Vec::new();
        read.write(now, &mut again).expect("a buffer takes all");
        assert_eq!(String::from_utf8(again).expect("text"), text);
    });
}

#[test]
fn what_no_hub_has_written_is_an_error() {
    run(async {
        let written = bytes_of(&some().await.hub.snapshot(usize::MAX));
        let now = Instant::now();
        for end in 0..written.len() {
            let cut = Snapshot::read(&written[..end], now);
            assert!(cut.is_err(), "cut after {end} bytes");
        }
        let cut = Snapshot::read(&written[..written.len() - 4], now);
        assert!(matches!(cut, Err(InvalidSnapshot::CutOff)), "{cut:?}");
        // Any other byte is an error, or another text of the same shape; never a panic.
        for at in 0..written.len() {
            for byte in [b'9', b'-', b'"', b'\n', 0xff] {
                let mut changed = written.clone();
                changed[at] = byte;
                drop(Snapshot::read(&changed, now));
            }
        }
        let huge = |text: &str, with: &str| {
            let text = String::from_utf8(written.clone()).expect("text").replacen(text, with, 1);
            Snapshot::read(text.as_bytes(), now)
        };
        assert!(huge("\"channels\":2", "\"channels\":18446744073709551615").is_err());
        assert!(huge("\"newest\":7", "\"newest\":1").is_err());
        assert!(huge("\"format\":1", "\"format\":2").is_err());
        assert!(huge("[\"c\",\"a\",\"raw\"]", "[\"c\",\"\",\"raw\"]").is_err());
    });
}

#[test]
fn only_what_fits_is_handed_over_and_what_was_used_last_comes_first() {
    run(async {
        let settings = HubSettings { handover_bytes: 2_200, ..HubSettings::default() };
        let test = TestHub::new(1, settings);
        let streams = ["a", "b", "c"].map(|name| test.open(0, &[name]));
        settle().await;
        test.follow().await;
        for (channel, count) in [("a", 4), ("b", 20), ("c", 1)] {
            for _ in 0..count {
                test.publish(channel, "x").await;
            }
        }
        test.publish("a", "y").await;
        let snapshot = test.hub.snapshot(usize::MAX);
        let names =
            snapshot.channels.iter().map(|channel| channel.topic.subscription.name.as_str());
        // `b` has no room, and what is older than it is not looked at.
        assert_eq!(names.collect::<Vec<_>>(), ["a", "c"]);
        drop(streams);
    });
}

#[test]
fn who_serves_clients_already_does_not_take_over() {
    run(async {
        let old = some().await;
        let new = TestHub::new(1, HubSettings::default());
        assert_eq!(
            new.hub.take_over(&old.hub.snapshot(usize::MAX), true),
            Continued::TooLate,
            "no room"
        );
        new.hub.begin_after(1_000);
        assert_eq!(new.hub.take_over(&old.hub.snapshot(usize::MAX), true), Continued::NoFleet);
        new.hub.in_order(OrderId::PLAIN).begin(true);
        new.hub.restored();
        assert_eq!(new.hub.take_over(&old.hub.snapshot(usize::MAX), true), Continued::NotYet);
        mark(&new, 2);
        assert_eq!(new.hub.take_over(&old.hub.snapshot(usize::MAX), true), Continued::With(0));
        let _stream = new.open(0, &["a"]);
        settle().await;
        assert_eq!(new.hub.take_over(&old.hub.snapshot(usize::MAX), true), Continued::TooLate);
    });
}

#[test]
fn a_followed_channel_that_is_quiet_since_the_start_is_taken_over_too() {
    run(async {
        let settings = || HubSettings { max_channels: 9, ..following(&[("a*", Format::Raw)], 9) };
        let old = TestHub::new(1, settings());
        old.hub.in_order(OrderId::PLAIN).begin(true);
        old.follow().await;
        old.hub.restored();
        mark(&old, 1);
        old.publish_copies("a1", &["a*"], "1").await;
        mark(&old, 2);
        let new = TestHub::new(1, settings());
        new.hub.begin_after(1_000);
        new.hub.in_order(OrderId::PLAIN).begin(true);
        new.follow().await;
        new.hub.restored();
        mark(&new, 2);
        assert_eq!(new.hub.take_over(&old.hub.snapshot(usize::MAX), false), Continued::With(1));
        let stream = new.open_with(0, &["a1"], None, follow::all());
        settle().await;
        assert_eq!(told(&stream).await, ["1"]);
    });
}

#[test]
fn a_quiet_stream_is_told_a_newer_mark_before_its_own_is_forgotten() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        test.hub.in_order(OrderId::PLAIN).begin(true);
        let stream = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        test.hub.restored();
        let marks = crate::fleet::marks::MAX_MARKS / 4;
        let mut ids = Vec::new();
        for mark in 0..=2 * marks {
            test.hub
                .in_order(OrderId::PLAIN)
                .receive_for_all(format!(r#"{{"mark":"{mark:016x}"}}"#).as_bytes());
            if mark % 1_000 == 0 {
                test.hub.flush();
                settle().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                let text = read_all(&stream, follow::with_whole_ids).await;
                ids.extend(text.matches("id: ").map(|_| mark));
            }
        }
        // At its first mark, and then some hours later, and again.
        assert!((3..=4).contains(&ids.len()), "{ids:?}");
    });
}

#[test]
fn patterns_that_are_followed_are_no_channels_of_a_snapshot() {
    run(async {
        let pattern = FollowedPattern {
            pattern: crate::ChannelName::new("a*").expect("a name"),
            format: Format::Raw,
        };
        let settings = HubSettings { followed: [pattern].into(), ..HubSettings::default() };
        let test = TestHub::new(1, settings);
        test.follow().await;
        assert_eq!(test.hub.snapshot(usize::MAX).channels(), 0);
    });
}
