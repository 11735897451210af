//! Recorded sharded channels on a Redis Cluster: each message is once in the log, and a slot that moves or whose owner is
//! killed is a gap at most.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    ClusterSet, EventStream, Gateway, GatewayBuilder, Request, SOON, Via, eventually, measured,
    within,
};

const MASTERS: [usize; 3] = [0, 1, 2];

const ROUTES: &str = "\
- { path: /events, events: { channels: [\"{query.channel}\"], source: recorded, sharded: true } }
- { path: \"/publish/{channel}\", publish: {}, auth: { tokens: [{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }] } }
";

fn build(set: &ClusterSet, url: &str) -> GatewayBuilder {
    Gateway::build(&set.nodes[0]).redis_url(url).routes(ROUTES)
}

async fn start(set: &ClusterSet) -> Gateway {
    let gateway = build(set, &set.url(&[3, 4])).start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

/// The entries of a log: their ids, and their messages; `None`: a gap.
async fn log(set: &ClusterSet, key: &str) -> Vec<(String, Option<String>)> {
    let words = ["XRANGE", key, "-", "+"];
    let entries: Vec<(String, Vec<String>)> = Box::pin(set.run(&words)).await;
    let message = |fields: Vec<String>| (fields[0] == "m").then(|| fields[1].clone());
    entries.into_iter().map(|(id, fields)| (id, message(fields))).collect()
}

/// Waits until the log ends with this message.
async fn log_ends(set: &ClusterSet, key: &str, message: &str) {
    eventually(4 * SOON, "the log has the last message", async || {
        let log = log(set, key).await;
        log.last().is_some_and(|(_, last)| last.as_deref() == Some(message))
    })
    .await;
}

async fn publish(set: &ClusterSet, channel: &str, data: &str) {
    set.run::<u64>(&["SPUBLISH", channel, data]).await;
}

/// A number with its id; `None`: a gap.
type Item = (String, Option<u64>);

/// Reads until a number of at least `goal` has come, and says how far it has come.
async fn read(stream: &mut EventStream, goal: &AtomicU64, seen: &AtomicU64) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    while seen.load(Ordering::Relaxed) < goal.load(Ordering::Relaxed) {
        let event = within(6 * SOON, "an event", stream.event()).await;
        let event = event.expect("the stream is open");
        let number = (event.name != "gap").then(|| event.data.parse().expect("a number"));
        seen.fetch_max(number.unwrap_or_default(), Ordering::Relaxed);
        items.push((event.id, number));
    }
    items
}

/// Checks that numbers ascend, and that none is missing but behind a gap. Returns how many are missing, and the gaps.
fn check(what: &str, items: &[Item]) -> (u64, usize) {
    let (mut newest, mut has_gap, mut missing, mut gaps) = (0, false, 0, 0);
    for (id, number) in items {
        let Some(number) = *number else {
            has_gap = true;
            gaps += 1;
            continue;
        };
        assert!(number > newest, "{what}: {number} ({id}) comes behind {newest}: {items:?}");
        assert!(number == newest + 1 || has_gap, "{what}: {newest}, then {number}: {items:?}");
        missing += number - newest - 1;
        (newest, has_gap) = (number, false);
    }
    (missing, gaps)
}

/// Publishes ascending numbers while `action` goes on, and until streams at both gateways have had one that was published
/// after it. Checks what they have read, and the log.
async fn while_published(
    set: &ClusterSet,
    channel: &str,
    gateways: [&Gateway; 2],
    action: impl Future<Output = ()>,
) {
    let target = format!("/events?channel={channel}");
    let mut streams = Vec::new();
    for gateway in gateways {
        streams.push(gateway.subscribe(&target).await);
    }
    let (goal, is_done) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
    let seen = [const { AtomicU64::new(0) }; 2];
    let publishing = async {
        let mut number = 0;
        while seen.iter().any(|seen| seen.load(Ordering::Relaxed) < goal.load(Ordering::Relaxed)) {
            number += 1;
            publish(set, channel, &number.to_string()).await;
            if is_done.load(Ordering::Relaxed) {
                goal.fetch_min(number, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        number
    };
    let acting = async {
        // Something was heard before.
        eventually(SOON, "both have heard something", async || {
            seen.iter().all(|seen| seen.load(Ordering::Relaxed) > 20)
        })
        .await;
        action.await;
        is_done.store(true, Ordering::Relaxed);
    };
    let [one, two] = &mut streams[..] else { unreachable!("there are two") };
    let reading = async { tokio::join!(read(one, &goal, &seen[0]), read(two, &goal, &seen[1])) };
    let (last, (), (one, two)) = tokio::join!(publishing, acting, reading);
    let key = format!("ssegate:log:sharded:{{{channel}}}");
    log_ends(set, &key, &last.to_string()).await;
    let logged: Vec<Item> = log(set, &key)
        .await
        .into_iter()
        .map(|(id, message)| (id, message.map(|message| message.parse().expect("a number"))))
        .collect();
    let by_id: BTreeMap<&String, Option<u64>> =
        logged.iter().map(|(id, number)| (id, *number)).collect();
    assert_eq!(by_id.len(), logged.len(), "each id once");
    let (missing, gaps) = check("the log", &logged);
    measured(&format!("{last} published; the log lacks {missing} behind {gaps} gaps"));
    for (what, read) in [("at the first gateway", one), ("at the second gateway", two)] {
        let (missing, gaps) = check(what, &read);
        measured(&format!("{what} {missing} were missing behind {gaps} gaps"));
        for (id, number) in read.iter().filter(|(_, number)| number.is_some()) {
            let recorded = by_id.get(id).copied().flatten();
            assert!(
                recorded.is_none() || recorded == *number,
                "{id} is {number:?} and {recorded:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_sharded_channels_resume_at_any_gateway_and_after_the_restart_of_all() {
    let set = ClusterSet::start().await;
    let url = set.url_with_shipped_rights(&[3]).await;
    let one = build(&set, &url).start().await;
    one.becomes(200, SOON).await;
    // Its user may publish, too.
    let two = start(&set).await;
    // Of all three masters, and one with a hash tag.
    let names = ["foo", "bar", "sport", "new-{foo}"];
    let mut owners = Vec::new();
    for name in names {
        owners.push(set.owner(set.slot(name).await, &MASTERS).await);
    }
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners, MASTERS, "choose other names");
    let query = "/events?channel=foo&channel=bar&channel=sport&channel=new-%7Bfoo%7D";
    let (mut moving, mut staying) = (one.subscribe(query).await, two.subscribe(query).await);
    let mut single = one.subscribe("/events?channel=foo").await;
    let mut other = two.subscribe_via(Via::H2c, "/events?channel=foo").await;
    for name in names {
        publish(&set, name, name).await;
        for stream in [&mut moving, &mut staying] {
            assert_eq!(within(SOON, "it is heard", stream.next_event()).await.data, name);
        }
    }
    // The id is that of the entry, at each gateway.
    let ids = [single.next_event().await.id, other.next_event().await.id];
    log_ends(&set, "ssegate:log:sharded:{foo}", "foo").await;
    let recorded = log(&set, "ssegate:log:sharded:{foo}").await;
    assert_eq!(ids, [&*recorded.last().unwrap().0; 2]);
    // What is published while the client is away.
    let id = moving.last_id().to_owned();
    drop((moving, single));
    let post = Request::new("POST", "/publish/foo").header("authorization", "Bearer cron-token");
    assert_eq!(two.send(Via::Http1, post.body(b"foo posted")).await.status, 200);
    for name in &names[1..] {
        publish(&set, name, &format!("{name} later")).await;
    }
    let expected = ["bar later", "foo posted", "new-{foo} later", "sport later"];
    for gateway in [&two, &one] {
        let mut back = gateway.resume(Via::Http2, query, &id).await;
        let mut read = Vec::new();
        for _ in expected {
            read.push(within(SOON, "what was missed", back.next_event()).await.data);
        }
        read.sort();
        assert_eq!(read, expected);
    }
    assert_eq!(one.metrics().await.sum("ssegate_redis_errors_total", &[]), 0.0, "{}", one.log());
    for name in names {
        let key = match name {
            "new-{foo}" => {
                format!("ssegate:log:sharded:{{{}}}:{name}", set.tag(set.slot(name).await))
            }
            name => format!("ssegate:log:sharded:{{{name}}}"),
        };
        let last = if name == "foo" { "foo posted".to_owned() } else { format!("{name} later") };
        log_ends(&set, &key, &last).await;
    }
    // All gateways end at once.
    drop((staying, other));
    for gateway in [&one, &two] {
        gateway.signal(Signal::KILL);
    }
    let three = start(&set).await;
    let mut back = three.resume(Via::Http1, query, &id).await;
    let mut read = Vec::new();
    while read.len() < expected.len() {
        let event = within(SOON, "what was missed", back.next_event()).await;
        read.extend((event.name != "gap").then_some(event.data));
    }
    read.sort();
    assert_eq!(read, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_sharded_channels_are_whole_but_for_a_gap_when_their_slot_moves() {
    let set = ClusterSet::start().await;
    let (one, two) = (start(&set).await, start(&set).await);
    let slot = set.slot("news").await;
    let from = set.owner(slot, &MASTERS).await;
    let to = (from + 1) % 3;
    let moves = async {
        let pause = || tokio::time::sleep(Duration::from_millis(100));
        set.begin_move(slot, from, to).await;
        pause().await;
        set.move_keys(slot, from, to).await;
        pause().await;
        set.end_move(slot, from, to).await;
    };
    Box::pin(while_published(&set, "news", [&one, &two], moves)).await;
    assert_eq!(set.owner(slot, &MASTERS).await, to);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_sharded_channels_go_on_at_the_replica_of_a_node_that_was_killed() {
    let set = ClusterSet::start().await;
    let (one, two) = (start(&set).await, start(&set).await);
    let owner = set.owner(set.slot("bar").await, &MASTERS).await;
    let kill = async {
        set.nodes[owner].signal(Signal::KILL);
        eventually(4 * SOON, "the replica is the master", async || {
            set.nodes[owner + 3].role().await.as_deref() == Some("master")
        })
        .await;
    };
    Box::pin(while_published(&set, "bar", [&one, &two], kill)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_a_gateway_loses_nothing_of_recorded_sharded_channels() {
    let set = ClusterSet::start().await;
    let (one, two) = (start(&set).await, start(&set).await);
    let target = "/events?channel=foo";
    let (mut moving, mut staying) = (one.subscribe(target).await, two.subscribe(target).await);
    let goal = AtomicU64::new(150);
    let seen = [const { AtomicU64::new(0) }; 2];
    let publishing = async {
        for number in 1..=300 {
            publish(&set, "foo", &number.to_string()).await;
        }
    };
    let moves = async {
        let mut items = read(&mut moving, &goal, &seen[0]).await;
        one.signal(Signal::KILL);
        let mut moved = two.resume(Via::Http1, target, moving.last_id()).await;
        items.extend(read(&mut moved, &AtomicU64::new(300), &seen[0]).await);
        items
    };
    let last = AtomicU64::new(300);
    let stays = read(&mut staying, &last, &seen[1]);
    let ((), moved, stayed) = tokio::join!(publishing, moves, stays);
    for (what, items) in [("who moved", moved), ("who stayed", stayed)] {
        assert_eq!((check(what, &items), items.len()), ((0, 0), 300));
    }
    log_ends(&set, "ssegate:log:sharded:{foo}", "300").await;
    let log = log(&set, "ssegate:log:sharded:{foo}").await;
    assert_eq!(log.iter().filter(|(_, message)| message.is_some()).count(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moves a slot ten times, and kills both owners"]
async fn long_recorded_sharded_channels_when_their_slot_moves_again_and_again() {
    let set = ClusterSet::start().await;
    let (one, two) = (start(&set).await, start(&set).await);
    let slot = set.slot("news").await;
    let moves = async {
        for _ in 0..10 {
            let from = set.owner(slot, &MASTERS).await;
            set.move_slot(slot, from, (from + 1) % 3).await;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..3000))).await;
        }
        let owner = set.owner(slot, &MASTERS).await;
        set.nodes[owner].signal(Signal::KILL);
        eventually(4 * SOON, "the replica is the master", async || {
            set.nodes[owner + 3].role().await.as_deref() == Some("master")
        })
        .await;
    };
    Box::pin(while_published(&set, "news", [&one, &two], moves)).await;
}
