//! Gateways that are killed, and a Redis that is away.

use std::time::Duration;

use rustix::process::Signal;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ask, becomes, build, by, listen, members};
use crate::support::{
    EventStream, Gateway, Redis, Request, SOON, Via, eventually, measured, within,
};

/// Opens a stream for each of so many users.
async fn crowd(gateway: &Gateway, name: &str, count: usize) -> Vec<EventStream> {
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        streams.push(listen(gateway, &format!("{name}{number}"), "/events/news").await);
    }
    streams
}

async fn count(gateway: &Gateway) -> u64 {
    let told = ask(gateway, "asker", "/events/news/presence?count").await;
    told["channels"][0]["count"].as_u64().expect("a number")
}

async fn killed(users: usize) {
    let redis = Redis::start().await;
    let (mut one, two) = (build(&redis).start().await, build(&redis).start().await);
    let ours = crowd(&one, "a", users / 2).await;
    let theirs = crowd(&two, "b", users / 2).await;
    let _same = listen(&two, "a0", "/events/news").await;
    let all = users as u64;
    eventually(SOON, "all are known", async || count(&two).await == all).await;
    one.signal(Signal::KILL);
    one.exit_within(SOON).await;
    let killed = Instant::now();
    let left = all / 2 + 1;
    let gone = async || {
        let now = count(&two).await;
        assert!(now >= left, "{now} are left of {left}");
        now == left
    };
    let limit = Duration::from_secs(30);
    eventually(limit, "those of the killed gateway have left", gone).await;
    measured(&format!("{users} users: gone {:?} after kill -9", killed.elapsed()));
    let members = members(&two, "/events/news/presence").await;
    assert_eq!(members.len() as u64, left);
    assert!(members.iter().all(|(id, count)| (id == "a0" || id.starts_with('b')) && *count == 1));
    // Redis itself has forgotten them, and not only who asks.
    let forgotten =
        async || redis.command::<u64>(&["HLEN", "ssegate:presence:{news}"]).await == left + 1;
    eventually(limit, "Redis has forgotten them", forgotten).await;
    drop((ours, theirs));
}

#[tokio::test]
async fn the_listeners_of_a_killed_gateway_leave_within_30_seconds() {
    killed(40).await;
}

#[tokio::test]
#[ignore = "two thousand streams and half a minute"]
async fn long_two_thousand_users_and_a_gateway_that_is_killed() {
    killed(2000).await;
}

#[tokio::test]
async fn while_redis_is_away_nobody_knows_and_nothing_closes() {
    let mut redis = Redis::start().await;
    let (one, two) = (build(&redis).start().await, build(&redis).start().await);
    let mut ann = listen(&one, "ann", "/events/news").await;
    let bob = listen(&two, "bob", "/events/news").await;
    becomes(&one, "/events/news/presence", &[("ann", 1), ("bob", 1)]).await;
    redis.kill();
    for _ in 0..3 {
        let request = by("asker", Request::get("/events/news/presence"));
        let asked = Instant::now();
        let response = one.send(Via::Http1, request).await;
        assert_eq!(response.status, 503);
        assert!(!response.header("retry-after").is_empty());
        assert!(asked.elapsed() < SOON, "at once");
    }
    // Who comes and goes meanwhile is known afterwards.
    let request = by("cat", Request::events("/events/news"));
    let cat = one.send(Via::Http1, request).await.stream();
    drop(bob);
    // It has lost its memory.
    redis.restart().await;
    for gateway in [&one, &two] {
        let healed = async || {
            let request = by("asker", Request::get("/events/news/presence"));
            gateway.send(Via::Http1, request).await.status == 200
        };
        eventually(2 * SOON, "presence is back", healed).await;
    }
    becomes(&one, "/events/news/presence", &[("ann", 1), ("cat", 1)]).await;
    redis.command::<()>(&["FLUSHALL"]).await;
    becomes(&two, "/events/news/presence", &[("ann", 1), ("cat", 1)]).await;
    redis.has_listener("news").await;
    redis.publish("news", "still there").await;
    let told = async { while ann.next_event().await.data != "still there" {} };
    within(SOON, "the stream goes on", told).await;
    assert!(!ann.has_ended() && !cat.has_ended());
}

#[tokio::test]
async fn many_that_come_at_once_are_few_commands() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    let _first = listen(&gateway, "first", "/events/news").await;
    becomes(&gateway, "/events/news/presence", &[("first", 1)]).await;
    let began = Instant::now();
    let mut opening = JoinSet::new();
    for number in 0..300 {
        let request = by(&format!("a{number}"), Request::events("/events/news"));
        let to = gateway.address_for(Via::Http1);
        opening.spawn(async move { request.send(Via::Http1, to).await.stream() });
    }
    let streams = opening.join_all().await;
    eventually(SOON, "all are known", async || count(&gateway).await == 301).await;
    drop(streams);
    let left = async || count(&gateway).await == 1;
    eventually(SOON, "all have left", left).await;
    let stats = redis.command::<String>(&["INFO", "commandstats"]).await;
    let calls = stats.lines().find_map(|line| {
        let (calls, _) = line.strip_prefix("cmdstat_eval:calls=")?.split_once(',')?;
        calls.parse::<u128>().ok()
    });
    // One command in a turn, whose least time is 25 ms; there were 600 changes.
    let turns = began.elapsed().as_millis() / 25 + 4;
    measured(&format!("{calls:?} commands for 600 changes, in at most {turns} turns"));
    assert!(calls.is_some_and(|calls| calls <= turns), "{turns} {stats}");
}
