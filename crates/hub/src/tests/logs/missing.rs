//! Entries that are missing: trimmed, dropped, or gone with a log that was begun anew or restored.

use super::{entries, event, gap, id, log, position, read};
use crate::SourceKind;
use crate::tests::{TestHub, run, settle};
use crate::{
    EntryId, GapReason, HistorySettings, HubSettings, LogRange, LogReadResult, StreamSettings,
    WhenFull,
};

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
        test.hub.log_gap((SourceKind::Logs, "a"), GapReason::Reset, EntryId::ZERO);
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
        for newest in ["9-0", "3-0"] {
            let test = TestHub::new(1, HubSettings::default());
            let stream = test.open_log(&["a"], None);
            test.begin(&[("a", "4-0")]).await;
            test.add(&[("a", "5-0"), ("a", "6-0")]).await;
            test.hub.log_gap((SourceKind::Logs, "a"), GapReason::Reset, EntryId::ZERO);
            test.add(&[("a", newest)]).await;
            drop(read(&stream));
            for last in ["5-0", "6-0"] {
                let back = test.open_log(&["a"], Some(last));
                drop(read(&back));
                settle().await;
                let request = test.log_read().await;
                let range = LogRange::After { after: id(last), until: EntryId::ZERO };
                assert_eq!(request.range, range);
                let gap_at = Some((GapReason::Reset, EntryId::ZERO));
                let result = LogReadResult::Entries { gap: gap_at, entries: vec![], is_all: false };
                test.finish_read(&request, result).await;
                assert_eq!(read(&back), gap("0-0", "reset", "\"a\""));
                settle().await;
                let expected = format!("data: {newest}\nid: {newest}\n\nid: {newest}\n: ready\n\n");
                assert_eq!(read(&back), expected, "after {last}");
            }
            // One that has had nothing of the old log yet.
            let early = test.open_log(&["a"], Some("0-0"));
            drop(read(&early));
            settle().await;
            let expected = gap("0-0", "reset", "\"a\"")
                + &format!("data: {newest}\nid: {newest}\n\nid: {newest}\n: ready\n\n");
            assert_eq!(read(&early), expected);
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
        test.hub.log_gap((SourceKind::Logs, "a"), GapReason::RolledBack, id("11-0"));
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

        // For an id that has vanished, the source knows where the log goes on.
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
        // A client that was away has missed what was lost.
        let away = test.open_log(&["a"], Some("11-0"));
        drop(read(&away));
        settle().await;
        assert_eq!(
            read(&away),
            gap("11-0", "rolled_back", "\"a\"") + "data: 14-0\nid: 14-0\n\nid: 14-0\n: ready\n\n"
        );
        let new = test.open_log(&["a"], None);
        settle().await;
        assert_eq!(read(&new), ":\nretry: 3000\nid: 14-0\n: ready\n\n");
    });
}

#[test]
fn a_loss_in_a_quiet_log_is_told_when_the_history_no_longer_has_it() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let open = |id| {
            let history = HistorySettings { count: 0, ..HistorySettings::default() };
            test.open_topics(0, vec![log("a")], id, StreamSettings::default(), history)
        };
        let stream = open(None);
        test.begin(&[("a", "10-0")]).await;
        test.add(&[("a", "11-0"), ("a", "12-0")]).await;
        drop(read(&stream));
        test.hub.log_gap((SourceKind::Logs, "a"), GapReason::RolledBack, id("11-0"));
        test.hub.flush();
        settle().await;
        let told = gap("11-0", "rolled_back", "\"a\"");
        assert_eq!(read(&stream), told);
        let away = open(Some("11-0"));
        drop(read(&away));
        settle().await;
        let request = test.log_read().await;
        let range = LogRange::After { after: id("11-0"), until: id("11-0") };
        assert_eq!(request.range, range);
        let rolled_back = Some((GapReason::RolledBack, id("11-0")));
        let result = LogReadResult::Entries { gap: rolled_back, entries: vec![], is_all: true };
        test.finish_read(&request, result).await;
        let mut text = read(&away);
        settle().await;
        text += &read(&away);
        assert_eq!(text, told + "id: 11-0\n: ready\n\n");
        // A client that begins here has lost nothing.
        let new = open(None);
        settle().await;
        assert_eq!(read(&new), ":\nretry: 3000\nid: 11-0\n: ready\n\n");
    });
}

#[test]
fn a_loss_that_the_source_has_forgotten_is_told_once_and_not_looked_up_again() {
    run(async {
        for (kept, reason) in
            [(id("11-0"), GapReason::RolledBack), (EntryId::ZERO, GapReason::Reset)]
        {
            let test = TestHub::new(1, HubSettings::default());
            let open = |id| {
                let history = HistorySettings { count: 0, ..HistorySettings::default() };
                test.open_topics(0, vec![log("a")], id, StreamSettings::default(), history)
            };
            let stream = open(None);
            test.begin(&[("a", "10-0")]).await;
            test.add(&[("a", "11-0"), ("a", "12-0")]).await;
            drop(read(&stream));
            test.hub.log_gap((SourceKind::Logs, "a"), reason, kept);
            test.hub.flush();
            settle().await;
            let kept = kept.to_string();
            let told = gap(&kept, reason.as_str(), "\"a\"");
            assert_eq!(read(&stream), told);
            // Its position is that after which entries were lost. The source remembers some losses only.
            let away = open(Some(&kept));
            drop(read(&away));
            settle().await;
            let request = test.log_read().await;
            test.finish_read(&request, entries(&[], true)).await;
            let mut text = read(&away);
            settle().await;
            text += &read(&away);
            assert_eq!(text, format!("{told}id: {kept}\n: ready\n\n"));
        }
    });
}

#[test]
fn a_loss_of_one_log_does_not_hide_that_of_another() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_log(&["a", "b"], None);
        test.begin(&[("a", "10-0"), ("b", "20-0")]).await;
        test.add(&[("a", "11-0"), ("a", "12-0"), ("b", "21-0"), ("b", "22-0")]).await;
        // That of `b` has the smaller number.
        test.hub.log_gap((SourceKind::Logs, "b"), GapReason::RolledBack, id("21-0"));
        test.hub.log_gap((SourceKind::Logs, "a"), GapReason::RolledBack, id("11-0"));
        test.add(&[("a", "14-0"), ("b", "24-0")]).await;
        drop(read(&stream));
        // A client that has had the lost entry of `a`, and not that of `b`.
        let back = test.open_log(&["a", "b"], Some(&position("12-0~21-0")));
        let mut text = read(&back);
        settle().await;
        let request = test.log_read().await;
        let rolled_back = Some((GapReason::RolledBack, id("11-0")));
        let result = LogReadResult::Entries { gap: rolled_back, entries: vec![], is_all: false };
        test.finish_read(&request, result).await;
        for _ in 0..3 {
            text += &read(&back);
            settle().await;
        }
        for lossy in ["\"a\"", "\"b\""] {
            let is_told = |line: &&str| line.contains("rolled_back") && line.contains(lossy);
            assert!(text.lines().any(|line| is_told(&line)), "{lossy}: {text}");
        }
    });
}

#[test]
fn losses_of_two_logs_that_no_history_has_are_each_told_once() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let open = |id| {
            let history = HistorySettings { count: 0, ..HistorySettings::default() };
            let topics = vec![log("a"), log("b")];
            test.open_topics(0, topics, id, StreamSettings::default(), history)
        };
        let stream = open(None);
        test.begin(&[("a", "10-0"), ("b", "20-0")]).await;
        test.add(&[("a", "11-0"), ("a", "12-0"), ("b", "21-0"), ("b", "22-0")]).await;
        // That of `b` has the smaller number.
        test.hub.log_gap((SourceKind::Logs, "b"), GapReason::RolledBack, id("21-0"));
        test.hub.log_gap((SourceKind::Logs, "a"), GapReason::RolledBack, id("11-0"));
        test.hub.flush();
        settle().await;
        drop(read(&stream));
        let back = open(Some(&position("11-0~21-0")));
        let mut text = read(&back);
        settle().await;
        // The source reports the loss in each reply.
        for _ in 0..2 {
            let request = test.log_read().await;
            let LogRange::After { after, .. } = request.range else {
                panic!("{:?}", request.range);
            };
            let gap = Some((GapReason::RolledBack, after));
            let result = LogReadResult::Entries { gap, entries: vec![], is_all: true };
            test.finish_read(&request, result).await;
            text += &read(&back);
            settle().await;
            text += &read(&back);
        }
        for lossy in ["\"a\"", "\"b\""] {
            let is_told = |line: &&str| line.contains("rolled_back") && line.contains(lossy);
            assert_eq!(text.lines().filter(is_told).count(), 1, "{lossy}: {text}");
        }
        assert!(text.contains(": ready"), "{text}");
    });
}

#[test]
fn an_id_that_is_none_of_the_log_is_looked_up() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open_log(&["a"], None);
        test.begin(&[("a", "10-0")]).await;
        test.add(&[("a", "11-0"), ("a", "13-0")]).await;
        drop(read(&stream));
        // Another gateway has read it before it was lost.
        let back = test.open_log(&["a"], Some("12-0"));
        drop(read(&back));
        settle().await;
        let request = test.log_read().await;
        let range = LogRange::After { after: id("12-0"), until: id("10-0") };
        assert_eq!(request.range, range);
        let rolled_back = Some((GapReason::RolledBack, id("11-0")));
        let result = LogReadResult::Entries { gap: rolled_back, entries: vec![], is_all: false };
        test.finish_read(&request, result).await;
        let mut text = read(&back);
        settle().await;
        text += &read(&back);
        let told = gap("11-0", "rolled_back", "\"a\"");
        assert_eq!(text, told + "data: 13-0\nid: 13-0\n\nid: 13-0\n: ready\n\n");
    });
}
