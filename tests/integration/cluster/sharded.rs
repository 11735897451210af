//! Sharded channels on a Redis Cluster: subscribed to at the owner of their slot, and a gap where that has moved.

use std::time::Duration;

use crate::support::{ClusterSet, EventStream, Gateway, Redis, Request, SOON, Via, eventually};

const MASTERS: [usize; 3] = [0, 1, 2];
const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

const ROUTES: &str = "\
- { path: /shards, events: { channels: [\"{query.channel}\"], sharded: true, strip_prefix: \"app:\" } }
- { path: /plain, events: { channels: [\"{query.channel}\"], strip_prefix: \"app:\", history: off } }
- { path: \"/publish/{channel}\", publish: {}, auth: { tokens: [{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }] } }
";

async fn start(set: &ClusterSet, nodes: &[usize]) -> Gateway {
    let gateway = Gateway::build(&set.nodes[0]).redis_url(&set.url(nodes)).routes(ROUTES);
    let gateway = gateway.start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

fn gap(channel: &str) -> String {
    format!("gap {{\"reason\":\"redis_away\",\"channels\":[\"{channel}\"]}}")
}

/// The nodes among these that have a listener of a sharded channel.
pub(super) async fn listening(set: &ClusterSet, channel: &str, among: &[usize]) -> Vec<usize> {
    let mut listening = Vec::new();
    for &at in among {
        let words = ["PUBSUB", "SHARDNUMSUB", channel];
        let (_, count): (String, u64) = set.nodes[at].command(&words).await;
        if count > 0 {
            listening.push(at);
        }
    }
    listening
}

/// Publishes to a channel until its stream has heard it, and returns all that it has read.
async fn read_until_heard(
    set: &ClusterSet,
    stream: &mut EventStream,
    channel: &str,
) -> Vec<String> {
    let publishing = async {
        loop {
            set.run::<u64>(&["SPUBLISH", channel, "last"]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        read = stream.read_until("last") => read,
        () = publishing => unreachable!("it publishes until it is heard"),
    }
}

/// Reads what is left of a repeated message.
async fn hears(set: &ClusterSet, stream: &mut EventStream, channel: &str, data: &str) {
    set.run::<u64>(&["SPUBLISH", channel, data]).await;
    let read = stream.read_until(data).await;
    assert!(read.iter().all(|read| read == "last" || read == data), "{channel}: {read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharded_channels_are_heard_where_their_slots_are_and_a_moved_slot_is_one_gap() {
    let set = ClusterSet::start().await;
    let gateway = start(&set, &[4]).await;
    // Several slots of each master, two channels of one slot.
    let names = ["foo", "bar", "news", "sport", "{foo}2", "a", "b", "c"];
    let encoded = names.map(|name| name.replace('{', "%7B").replace('}', "%7D"));
    let query = encoded.map(|name| format!("channel={name}"));
    let mut stream = gateway.subscribe_via(Via::H2c, &format!("/shards?{}", query.join("&"))).await;
    let mut plain = gateway.subscribe("/plain?channel=foo").await;
    for name in names {
        let channel = format!("app:{name}");
        set.run::<u64>(&["SPUBLISH", &channel, name]).await;
        assert_eq!(stream.next_event().await.data, name);
        let owner = set.owner(set.slot(&channel).await, &MASTERS).await;
        assert_eq!(listening(&set, &channel, &ALL).await, [owner], "{name}");
    }
    // In Redis a sharded channel is another than the one of the same name.
    set.nodes[5].publish("app:foo", "plain").await;
    assert_eq!(plain.next_event().await.data, "plain");
    let publish = Request::new("POST", "/publish/foo").header("authorization", "Bearer cron-token");
    assert_eq!(gateway.send(Via::Http1, publish.body(b"posted")).await.status, 200);
    assert_eq!(stream.next_event().await.data, "posted");
    // Another gateway knows where the client was on a channel, whatever others its stream had.
    let second = start(&set, &[5]).await;
    let mut back = second.resume(Via::Http1, "/shards?channel=foo", stream.last_id()).await;
    back.ready().await;
    set.run::<u64>(&["SPUBLISH", "app:foo", "at both"]).await;
    assert_eq!(back.next_event().await.data, "at both");
    assert_eq!(stream.next_event().await.data, "at both");
    drop((back, second));
    six_moves(&set, &gateway).await;
}

/// The cases of tests/unit/cluster/pubsubshard-slot-migration.tcl of Redis but for the last.
async fn six_moves(set: &ClusterSet, gateway: &Gateway) {
    let channel = "app:ch3";
    let slot = set.slot(channel).await;
    let from = set.owner(slot, &MASTERS).await;
    let to = (from + 1) % 3;
    // Another channel on the same connection.
    let mut names = (0..).map(|number: u32| number.to_string());
    let other = loop {
        let name = names.next().unwrap();
        let slot_of_name = set.slot(&format!("app:{name}")).await;
        if slot_of_name != slot && set.owner(slot_of_name, &MASTERS).await == from {
            break name;
        }
    };
    let other_channel = format!("app:{other}");
    let mut moved = gateway.subscribe("/shards?channel=ch3").await;
    let mut stays = gateway.subscribe(&format!("/shards?channel={other}")).await;

    // 1 and 2: a slot moves, one of several on a connection. Until it has, nothing changes.
    set.begin_move(slot, from, to).await;
    hears(set, &mut moved, channel, "while it moves").await;
    set.end_move(slot, from, to).await;
    assert_eq!(read_until_heard(set, &mut moved, channel).await, [gap("ch3"), "last".into()]);
    hears(set, &mut stays, &other_channel, "stays").await;
    eventually(SOON, "only the new owner has it", async || {
        listening(set, channel, &ALL).await == [to]
    })
    .await;

    // 3: the owner becomes a replica; its replica has the slot.
    let replica = to + 3;
    set.nodes[replica].command::<()>(&["CLUSTER", "FAILOVER"]).await;
    eventually(4 * SOON, "the replica is the master", async || {
        set.nodes[replica].role().await.as_deref() == Some("master")
            && set.nodes[to].role().await.as_deref() == Some("slave")
    })
    .await;
    // A replica passes on what its master is sent, so "heard" alone does not say that the subscription has moved.
    eventually(4 * SOON, "only the new owner has it", async || {
        listening(set, channel, &ALL).await == [replica]
    })
    .await;
    // The old owner takes the subscription once more, as a replica, which does not count.
    let read = read_until_heard(set, &mut moved, channel).await;
    assert_eq!(read.iter().filter(|data| data.starts_with("gap")).count(), 1, "{read:?}");
    hears(set, &mut stays, &other_channel, "stays again").await;

    // 4: a replica moves to another master, which is nothing to those who listen to masters.
    let other_master: String = set.nodes[replica].command(&["CLUSTER", "MYID"]).await;
    let free_replica = from + 3;
    // It may take a moment until that one knows its master for one.
    eventually(SOON, "it has moved", async || {
        set.nodes[free_replica].try_command(&["CLUSTER", "REPLICATE", &other_master]).await
    })
    .await;
    hears(set, &mut moved, channel, "a replica has moved").await;
    hears(set, &mut stays, &other_channel, "a replica has moved").await;

    // 5: a slot is deleted, and given to another node.
    let third = 3 - from - to;
    for at in ALL {
        set.nodes[at].try_command(&["CLUSTER", "DELSLOTS", &slot.to_string()]).await;
    }
    eventually(4 * SOON, "the third master has the slot, and all nodes agree", async || {
        let slot = slot.to_string();
        let has_it = set.nodes[third].try_command(&["CLUSTER", "ADDSLOTS", &slot]).await
            || set.nodes[third].try_command(&["SPUBLISH", channel, "probe"]).await;
        if !has_it {
            // The old owner claimed it once more before it deleted it, too.
            set.nodes[third].try_command(&["CLUSTER", "DELSLOTS", &slot]).await;
        }
        // A node that has not heard of the deletion goes on to believe the newest failover, unless this is newer.
        set.nodes[third].try_command(&["CLUSTER", "BUMPEPOCH"]).await;
        let mut agree =
            has_it && !set.nodes[replica].try_command(&["SPUBLISH", channel, "x"]).await;
        for at in ALL {
            let info: String = set.nodes[at].command(&["CLUSTER", "INFO"]).await;
            agree &= info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
        }
        agree
    })
    .await;
    let read = read_until_heard(set, &mut moved, channel).await;
    assert_eq!(read.iter().filter(|data| data.starts_with("gap")).count(), 1, "{read:?}");

    // 6: a user may not have each channel. Others of the same slot are not affected.
    for node in &set.nodes {
        let rights = "on nopass ~* resetchannels &app:ch* &ssegate:* +@all";
        let words = ["ACL", "SETUSER", "some"].into_iter().chain(rights.split(' '));
        node.command::<String>(&words.collect::<Vec<_>>()).await;
    }
    let url = set.url(&[third]).replace("://", "://some:x@");
    let some = Gateway::build(&set.nodes[0]).redis_url(&url).routes(ROUTES).start().await;
    let mut denied = some.open("/shards?channel=ch3%7Bt%7D&channel=%7Bt%7D").await;
    some.logs("SSUBSCRIBE to the channel").await;
    let read = read_until_heard(set, &mut denied, "app:ch3{t}").await;
    assert!(!read.contains(&gap("ch3{t}")), "{read:?}");
    // Those of here, and the two of before.
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 4.0, "no stream was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharded_channels_go_on_at_the_replica_of_a_node_that_was_reset_or_killed() {
    let mut set = ClusterSet::start().await;
    let url = set.url_with_shipped_rights(&MASTERS).await;
    let gateway = Gateway::build(&set.nodes[0]).redis_url(&url).routes(ROUTES).start().await;
    gateway.becomes(200, SOON).await;
    // Of all three masters.
    let names = ["foo", "bar", "news"];
    let mut streams = Vec::new();
    let mut owners = Vec::new();
    for name in names {
        owners.push(set.owner(set.slot(&format!("app:{name}")).await, &MASTERS).await);
        streams.push(gateway.subscribe(&format!("/shards?channel={name}")).await);
    }
    owners.sort_unstable();
    assert_eq!(owners, MASTERS, "choose other names");
    let first = set.owner(set.slot("app:bar").await, &MASTERS).await;
    let second = set.owner(set.slot("app:foo").await, &MASTERS).await;
    set.nodes[first].kill();
    let read = read_until_heard(&set, &mut streams[1], "app:bar").await;
    assert_eq!(read, [gap("bar"), "last".to_owned()]);
    // The seventh case: a master forgets the Cluster, and is another node from then on. The others know no address of the
    // owner: its replica passes on what is published there.
    set.nodes[second].command::<()>(&["CLUSTER", "RESET", "HARD"]).await;
    let read = read_until_heard(&set, &mut streams[0], "app:foo").await;
    assert_eq!(read, [gap("foo"), "last".to_owned()]);
    // Those of the third are not affected.
    hears(&set, &mut streams[2], "app:news", "not affected").await;
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 3.0, "no stream was closed");
}

#[tokio::test]
async fn sharded_channels_of_one_server_are_heard_and_what_redis_lacks_is_named() {
    let redis = Redis::start().await;
    let routes = "- { path: /a, events: { channels: [\"{query.channel}\"], sharded: true } }\n";
    let dir = tempfile::TempDir::new().unwrap();
    let wrong = "- { path: /a, events: { channels: [a], sharded: true, patterns: true } }\n\
                 - { path: /b, events: { channels: [b], sharded: true, source: stream } }\n\
                 - { path: /c, events: { channels: [c], sharded: true, follow: [c] } }\n";
    let builder = Gateway::build(&redis).routes(wrong);
    let said = builder.program(dir.path(), "check").output(SOON).await.stderr;
    for part in [
        "Redis has no patterns of sharded channels; write one of them",
        "is not supported with source: stream",
        "is not supported with sharded: true: Redis has no patterns",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let gateway = Gateway::build(&redis).routes(routes).settings("fleet: off").start().await;
    let mut stream = gateway.subscribe("/a?channel=news&channel=sport").await;
    for channel in ["news", "sport"] {
        redis.command::<u64>(&["SPUBLISH", channel, channel]).await;
        assert_eq!(stream.next_event().await.data, channel);
    }
    let builder = Gateway::build(&redis).routes(routes).settings("fleet: off");
    let published = builder.program(dir.path(), "pub").args(["news", "by hand"]).output(SOON).await;
    assert_eq!(published.stdout.trim(), "1 receiver", "{}", published.stderr);
    assert_eq!(stream.next_event().await.data, "by hand");
    // The connection is lost: one gap.
    redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually(SOON, "it is subscribed again", async || {
        let words = ["PUBSUB", "SHARDNUMSUB", "news", "sport"];
        let counts: (String, u64, String, u64) = redis.command(&words).await;
        counts.1 == 1 && counts.3 == 1
    })
    .await;
    redis.command::<u64>(&["SPUBLISH", "sport", "after"]).await;
    let read = stream.read_until("after").await;
    assert!(read.len() >= 2 && read[0].starts_with("gap"), "{read:?}");
    gateway.logs("connected again for sharded channels").await;
}
