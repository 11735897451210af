//! Streams that are quiet, stuck, too old or drained.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ssegate_sse::frame::Form;

use super::{TestHub, WITH_POSITION, WRITE_TIMEOUT, read, run, settle, topic};
use crate::{CloseReason, HubSettings, LastSeen, StreamRequest, StreamSettings, Subscriber};

#[test]
fn a_quiet_stream_is_kept_alive_and_a_busy_one_is_not() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let [quiet, busy] = [test.open(0, &["quiet"]), test.open(0, &["busy"])];
        settle().await;
        test.follow().await;
        drop((read(&quiet), read(&busy)));
        let (mut comments, mut busy_comments) = (0, 0);
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            test.publish("busy", "x").await;
            comments += usize::from(read(&quiet) == ":");
            busy_comments += read(&busy).lines().filter(|line| line.starts_with(':')).count();
        }
        assert!((3..=4).contains(&comments), "{comments} in a minute");
        assert_eq!(busy_comments, 0);
    });
}

#[test]
fn a_stream_that_cannot_be_written_to_is_cut_off() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let is_cut = std::rc::Rc::new(Cell::new(false));
        let cut = std::rc::Rc::clone(&is_cut);
        let stream = test.shards[0].subscribe(StreamRequest {
            topics: vec![topic("a")],
            settings: Arc::new(StreamSettings::default()),
            prefix_bytes: 0,
            history: None,
            last_seen: LastSeen::default(),
            opening: WITH_POSITION,
            expires_at: None,
            cut: Box::new(move || cut.set(true)),
            tag: 0,
        });
        settle().await;
        test.follow().await;
        drop(read(&stream));
        test.publish("a", "1").await;
        tokio::time::sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
        assert!(!is_cut.get());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(is_cut.get());
        assert_eq!(stream.close_reason(), Some(CloseReason::Stalled));
    });
}

#[test]
fn a_drained_stream_ends_with_retry() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["a"]);
        test.shards[0].drain(Duration::ZERO).await;
        let text = read(&stream);
        let retry: u64 = text
            .strip_prefix(":\nretry: 3000\nretry: ")
            .and_then(|rest| rest.trim().parse().ok())
            .expect("a second retry");
        assert!((3000..=6000).contains(&retry));
        assert_eq!(stream.close_reason(), Some(CloseReason::Drained));
        let context = Context::from_waker(Waker::noop());
        assert_eq!(stream.poll_next(Form::Text, &context), Poll::Ready(None));
    });
}

#[test]
fn a_drained_stream_gets_what_was_published_before_its_retry() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        test.publish("a", "1").await;
        test.publish("b", "2").await;
        test.publish("a", "3").await;
        drop(read(&stream));
        test.publish("a", "4").await;
        test.shards[0].drain(Duration::ZERO).await;
        let text = read(&stream);
        assert!(text.starts_with("data: 4\nid: R-4\n\nretry: "), "{text}");
    });
}

#[test]
fn a_drain_ends_streams_evenly_over_its_time() {
    run(async {
        const STREAMS: usize = 1000;
        let test = TestHub::new(1, HubSettings::default());
        let streams: Vec<_> = (0..STREAMS).map(|_| test.open(0, &["a"])).collect();
        let shard = test.shards[0].clone();
        let drain = async move { shard.drain(Duration::from_secs(10)).await };
        let drain = tokio::task::spawn_local(drain);
        let mut before = 0;
        for second in 1..=10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let closed = streams.iter().filter(|stream| stream.close_reason().is_some()).count();
            assert!((95..=105).contains(&(closed - before)), "{closed} after {second} s");
            before = closed;
        }
        settle().await;
        assert!(drain.is_finished());
        assert!(streams.iter().all(|stream| stream.close_reason().is_some()));
    });
}

#[test]
fn streams_end_at_their_max_age_and_not_all_together() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let max_age = Some(Duration::from_secs(100));
        let settings = || StreamSettings { max_age, ..StreamSettings::default() };
        let streams: Vec<_> =
            (0..200).map(|_| test.open_with(0, &["a"], None, settings())).collect();
        let ageless = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        let mut closed = Vec::new();
        for _ in 0..110 {
            streams.iter().for_each(|stream| drop(read(stream)));
            drop(read(&ageless));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let is_aged = |stream: &&Subscriber| stream.close_reason() == Some(CloseReason::Aged);
            closed.push(streams.iter().filter(is_aged).count());
        }
        assert_eq!(closed[73], 0, "no stream ends more than a quarter early");
        assert!((30..170).contains(&closed[87]), "{closed:?}");
        assert_eq!(closed[101], 200, "no stream ends late");
        assert_eq!(ageless.close_reason(), None);
    });
}

#[test]
fn a_stream_is_ended_from_outside_with_a_time_to_come_back() {
    run(async {
        let test = TestHub::new(1, HubSettings::default());
        let stream = test.open(0, &["a"]);
        settle().await;
        test.follow().await;
        drop(read(&stream));
        let ender = stream.ender();
        ender.end(CloseReason::Revoked);
        ender.end(CloseReason::Expired);
        assert!(read(&stream).contains("retry: "), "it says when to come back");
        assert_eq!(stream.close_reason(), Some(CloseReason::Revoked), "the first reason counts");
        drop(stream);
        ender.end(CloseReason::Revoked);
    });
}
