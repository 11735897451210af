//! Holes on purpose: each stream that may have missed something is told one gap, no other is told any.

use super::{build, comes_to, open, ready, start};
use crate::support::{EventStream, Gateway, Redis, Relay, SOON, Via};

const VIAS: [Via; 2] = [Via::Http1, Via::Http2];

/// Reads up to the event with this data; returns its id.
async fn id_of(stream: &mut EventStream, data: &str) -> String {
    loop {
        let event = stream.next_event().await;
        assert_eq!(event.name, "message", "{}", event.data);
        if event.data == data {
            return event.id;
        }
    }
}

/// How many gaps there are among these, each of which names these channels and no others.
fn told(read: &[String], channels: &[&str]) -> usize {
    let gaps = read.iter().filter(|data| data.starts_with("gap "));
    let check = |gap: &String| {
        let gap: serde_json::Value = serde_json::from_str(&gap[4..]).unwrap();
        let named = gap["channels"].as_array().unwrap();
        assert_eq!(named.len(), channels.len(), "{gap}");
        assert!(channels.iter().all(|channel| named.iter().any(|name| name == channel)), "{gap}");
    };
    gaps.inspect(|gap| check(gap)).count()
}

async fn gaps(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("ssegate_gaps_total", &[])
}

#[tokio::test]
async fn a_gateway_that_redis_cuts_off_tells_one_gap_and_the_others_none() {
    let redis = Redis::start().await;
    let path = Relay::to(([127, 0, 0, 1], redis.port()).into()).await;
    let cut = ready(build(&redis).redis_url(&format!("redis://{}", path.address()))).await;
    let whole = start(&redis).await;
    let (one, two) = (&["news"][..], &["news", "quiet"][..]);
    let mut at_cut = [open(&cut, Via::Http1, one).await, open(&cut, Via::Http2, two).await];
    let mut at_whole = [open(&whole, Via::Http1, one).await, open(&whole, Via::Http2, two).await];
    redis.publish("news", "before").await;
    let left = [id_of(&mut at_cut[0], "before").await, id_of(&mut at_cut[1], "before").await];
    for stream in &mut at_whole {
        assert_eq!(stream.read_until("before").await, ["before"]);
    }

    // More waits for the one that takes nothing than Redis keeps. Only that one follows the flood.
    drop(cut.subscribe("/events?channel=flood").await);
    path.hold(true);
    redis.publish("news", "held up").await;
    redis.overflow("flood").await;
    assert_eq!(redis.publish("news", "heard by one").await, 1);
    path.hold(false);
    cut.counts("ssegate_redis_reconnects_total", &[], 1.0).await;
    cut.becomes(200, SOON).await;
    redis.publish("news", "last").await;

    for (stream, channels) in at_cut.iter_mut().zip([one, two]) {
        let read = stream.read_until("last").await;
        assert_eq!(told(&read, channels), 1);
        // What Redis had sent before it cut the gateway off arrives, or is a part of what is missing.
        let [.., gap, _] = &read[..] else { panic!("{read:?}") };
        assert!(gap.contains("redis_away") && read.len() <= 3, "{read:?}");
        assert!(read.len() == 2 || read[0] == "held up", "{read:?}");
    }
    for stream in &mut at_whole {
        assert_eq!(stream.read_until("last").await, ["held up", "heard by one", "last"]);
    }

    // Whoever comes from before the break is told at the gateway that has the hole, and nowhere else.
    let again = async |gateway: &Gateway, channels: &[&str], id: &str| {
        comes_to((gateway, Via::Http2), &redis, channels, id).await
    };
    for (id, channels) in left.iter().zip([one, two]) {
        let (read, _stream) = again(&whole, channels, id).await;
        assert_eq!(read[..3], ["held up", "heard by one", "last"], "{channels:?}");
        assert_eq!(told(&read, &[]), 0, "{read:?}");
        let (read, stream) = again(&cut, channels, id).await;
        assert_eq!(told(&read, channels), 1, "{read:?}");
        let first = read.iter().find(|data| *data != "held up");
        assert!(first.is_some_and(|data| data.starts_with("gap")), "{read:?}");
        // Once told, nothing is missing any more, at either.
        let id = stream.last_id().to_owned();
        drop(stream);
        for gateway in [&whole, &cut] {
            let (read, _stream) = again(gateway, channels, &id).await;
            assert!(read.iter().all(|data| data == "last"), "{read:?}");
        }
    }
    assert_eq!(gaps(&whole).await, 0.0);
    // Two streams that were there, and two that came.
    assert_eq!(gaps(&cut).await, 4.0);
}

#[tokio::test]
async fn what_has_been_trimmed_is_one_gap_for_who_has_missed_it() {
    let redis = Redis::start().await;
    let start = || ready(build(&redis).settings("sse: { history: { count: 10 } }"));
    let gateways = [start().await, start().await];
    for (number, via) in VIAS.into_iter().enumerate() {
        let names = ["busy", "calm"].map(|name| format!("{name}:{number}"));
        let (busy, calm) = (names[0].as_str(), names[1].as_str());
        let _followers = open(&gateways[1], via, &[busy, calm]).await;
        let mut reader = open(&gateways[0], via, &[busy]).await;
        let mut both = open(&gateways[0], via, &[busy, calm]).await;
        redis.publish(busy, "0").await;
        let old = id_of(&mut reader, "0").await;
        let of_both = id_of(&mut both, "0").await;
        for number in 1..=20 {
            redis.publish(busy, number.to_string()).await;
        }
        // The ten newest are kept.
        let near = id_of(&mut reader, "16").await;
        id_of(&mut reader, "20").await;
        let of_calm = open(&gateways[0], via, &[calm]).await.last_id().to_owned();
        for gateway in &gateways {
            let before = gaps(gateway).await;
            let read = comes_to((gateway, via), &redis, &[busy], &near).await.0;
            assert_eq!(read[..4], ["17", "18", "19", "20"]);
            assert_eq!(told(&read, &[]), 0, "{read:?}");
            for (channels, id) in [(&[busy][..], &old), (&[busy, calm], &of_both)] {
                let read = comes_to((gateway, via), &redis, channels, id).await.0;
                assert!(told(&read, &[busy]) == 1 && read[0].starts_with("gap"), "{read:?}");
            }
            assert_eq!(gaps(gateway).await - before, 2.0);
        }
        for gateway in &gateways {
            let read = comes_to((gateway, via), &redis, &[calm], &of_calm).await.0;
            assert_eq!(told(&read, &[]), 0, "{read:?}");
        }
    }
}

#[tokio::test]
async fn a_subscription_that_came_later_is_one_gap_for_who_left_before_it() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    for (number, via) in VIAS.into_iter().enumerate() {
        let names = ["late", "shared"].map(|name| format!("{name}:{number}"));
        let (late, shared) = (names[0].as_str(), names[1].as_str());
        let _follower = open(&gateways[1], via, &[shared]).await;
        let mut one = open(&gateways[0], via, &[late]).await;
        let mut both = open(&gateways[0], via, &[late, shared]).await;
        redis.publish(late, "1").await;
        let old = id_of(&mut one, "1").await;
        let of_both = id_of(&mut both, "1").await;
        let of_shared = open(&gateways[0], via, &[shared]).await.last_id().to_owned();
        redis.publish(late, "2").await;
        // From here on both follow it.
        let mut witness = open(&gateways[1], via, &[late]).await;
        redis.publish(late, "3").await;
        witness.read_until("3").await;
        let new = id_of(&mut one, "3").await;
        let both_new = id_of(&mut both, "3").await;
        redis.publish(late, "4").await;
        id_of(&mut witness, "4").await;

        let comes = async |channels: &[&str], id: &str| {
            comes_to((&gateways[1], via), &redis, channels, id).await.0
        };
        let before = gaps(&gateways[1]).await;
        for (channels, id) in [(&[late][..], &old), (&[late, shared], &of_both)] {
            let read = comes(channels, id).await;
            assert!(told(&read, &[late]) == 1 && read[0].starts_with("gap"), "{read:?}");
        }
        assert_eq!(gaps(&gateways[1]).await - before, 2.0);
        redis.publish(shared, "5").await;
        for (channels, id) in [(&[late][..], &new), (&[late, shared], &both_new)] {
            let read = comes(channels, id).await;
            assert!(told(&read, &[]) == 0 && read[0] == "4", "{read:?}");
        }
        assert_eq!(comes(&[shared], &of_shared).await, ["5", "last"]);
        assert_eq!(gaps(&gateways[1]).await - before, 2.0);
    }
    assert_eq!(gaps(&gateways[0]).await, 0.0);
}
