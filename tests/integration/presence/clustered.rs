//! Who listens, kept on a real Redis Cluster: the channels at all of its nodes.

use std::time::Duration;

use rustix::process::Signal;

use super::webhooks::{OCCUPIED, VACATED, gateway, taken};
use super::{ask, becomes, build, by, listen};
use crate::support::{
    ClusterSet, EventStream, Gateway, Request, SOON, Upstream, Via, eventually, measured, within,
};

const MASTERS: [usize; 3] = [0, 1, 2];
/// Of each master one.
const CHANNELS: [&str; 3] = ["foo", "bar", "weather"];

/// Two gateways that begin with different nodes.
async fn fleet(set: &ClusterSet) -> (Gateway, Gateway) {
    let start = async |at: usize| {
        let url = set.url_with_shipped_rights(&[at]).await;
        build(&set.nodes[0]).redis_url(&url).start().await
    };
    (start(0).await, start(1).await)
}

async fn owner(set: &ClusterSet, channel: &str) -> usize {
    set.owner(set.slot(&format!("{{{channel}}}")).await, &MASTERS).await
}

/// A user on each of the channels.
async fn everywhere(gateway: &Gateway, user: &str) -> Vec<EventStream> {
    let mut streams = Vec::new();
    for channel in CHANNELS {
        streams.push(listen(gateway, user, &format!("/room/{channel}")).await);
    }
    streams
}

async fn all_become(gateway: &Gateway, expected: &[(&str, u64)]) {
    for channel in CHANNELS {
        becomes(gateway, &format!("/room/{channel}/presence"), expected).await;
    }
}

/// Reads until an event says that this user has come or gone.
async fn told(stream: &mut EventStream, what: &str, user: &str) {
    let said = [format!(r#""event":"{what}""#), format!(r#""id":"{user}""#)];
    let telling = async {
        loop {
            let event = stream.next_event().await;
            if said.iter().all(|part| event.data.contains(part)) {
                return;
            }
            let is_leave = event.data.contains(r#""event":"leave""#);
            assert!(!is_leave, "nobody has left: {}", event.data);
        }
    };
    within(2 * SOON, "an event of presence", telling).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channels_of_all_nodes_have_their_members_also_while_a_slot_moves() {
    let set = ClusterSet::start().await;
    let mut owners = Vec::new();
    for channel in CHANNELS {
        owners.push(owner(&set, channel).await);
    }
    owners.sort_unstable();
    assert_eq!(owners, MASTERS, "each node has a channel");
    let (one, two) = fleet(&set).await;
    let mut anns = everywhere(&one, "ann").await;
    let bobs = everywhere(&two, "bob").await;
    for ann in &mut anns {
        told(ann, "join", "bob").await;
    }
    for gateway in [&one, &two] {
        all_become(gateway, &[("ann", 1), ("bob", 1)]).await;
        let counted =
            ask(gateway, "asker", "/events/presence?count&channel=foo&channel=bar&channel=none")
                .await;
        let counts: Vec<u64> =
            (0..3).filter_map(|at| counted["channels"][at]["count"].as_u64()).collect();
        assert_eq!(counts, [2, 2, 0]);
    }

    // The slot of one moves: before its keys do, after that, and at the end somebody comes.
    let slot = set.slot("{foo}").await;
    let from = set.owner(slot, &MASTERS).await;
    let to = (from + 1) % 3;
    set.begin_move(slot, from, to).await;
    let _cat = listen(&one, "cat", "/room/foo").await;
    becomes(&two, "/room/foo/presence", &[("ann", 1), ("bob", 1), ("cat", 1)]).await;
    set.move_keys(slot, from, to).await;
    let _dan = listen(&two, "dan", "/room/foo").await;
    becomes(&one, "/room/foo/presence", &[("ann", 1), ("bob", 1), ("cat", 1), ("dan", 1)]).await;
    set.end_move(slot, from, to).await;
    drop(bobs);
    becomes(&two, "/room/foo/presence", &[("ann", 1), ("cat", 1), ("dan", 1)]).await;
    becomes(&one, "/room/bar/presence", &[("ann", 1)]).await;
    for gateway in [&one, &two] {
        assert!(!gateway.log().contains("presence does not work"), "{}", gateway.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_leaves_because_a_node_was_killed() {
    let mut set = ClusterSet::start().await;
    let (one, two) = fleet(&set).await;
    let mut anns = everywhere(&one, "ann").await;
    let _bobs = everywhere(&two, "bob").await;
    all_become(&two, &[("ann", 1), ("bob", 1)]).await;
    // The one that has the least to do with the gateways' subscriptions.
    let killed = owner(&set, "weather").await;
    let other = CHANNELS[usize::from(owner(&set, "foo").await == killed)];
    let acknowledged: u64 = set.nodes[killed].command(&["WAIT", "1", "5000"]).await;
    assert_eq!(acknowledged, 1, "its replica has it");
    set.nodes[killed].kill();
    // Those of other nodes do not wait for it.
    let path = format!("/room/{other}");
    let _cat = listen(&one, "cat", &path).await;
    becomes(&two, &format!("{path}/presence"), &[("ann", 1), ("bob", 1), ("cat", 1)]).await;
    let healed = async || {
        let request = by("asker", Request::get("/room/weather/presence"));
        two.send(Via::Http1, request).await.status == 200
    };
    eventually(4 * SOON, "the replica has taken over", healed).await;
    becomes(&two, "/room/weather/presence", &[("ann", 1), ("bob", 1)]).await;
    let _dan = listen(&two, "dan", "/room/weather").await;
    becomes(&one, "/room/weather/presence", &[("ann", 1), ("bob", 1), ("dan", 1)]).await;
    let at = CHANNELS.iter().position(|channel| *channel == "weather").unwrap();
    told(&mut anns[at], "join", "dan").await;
    assert!(anns.iter().all(|ann| !ann.has_ended()), "no stream was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "waits for leases: about half a minute"]
async fn long_the_members_of_a_killed_gateway_leave_a_cluster_and_a_webhook_tells_it() {
    let set = ClusterSet::start().await;
    let (one, mut two) = fleet(&set).await;
    let receiver = Upstream::start().await;
    let url = set.url(&[2]);
    // A gateway without members looks for the channels of one that dies.
    let watching = gateway(&set.nodes[0], &url, &receiver).await;
    let mut dying = gateway(&set.nodes[0], &url, &receiver).await;
    let _ann = everywhere(&one, "ann").await;
    let _bob = everywhere(&two, "bob").await;
    all_become(&one, &[("ann", 1), ("bob", 1)]).await;
    let _eve = listen(&dying, "eve", "/events/news").await;
    assert_eq!(taken(&receiver).await, OCCUPIED);
    let killed = tokio::time::Instant::now();
    for gateway in [&mut two, &mut dying] {
        gateway.signal(Signal::KILL);
        gateway.exit_within(SOON).await;
    }
    let limit = Duration::from_secs(30);
    let gone = async || {
        let told =
            ask(&one, "asker", "/events/presence?channel=foo&channel=bar&channel=weather").await;
        (0..3).all(|at| told["channels"][at]["count"] == 1)
    };
    eventually(limit, "they have left", gone).await;
    measured(&format!("on a Cluster: gone {:?} after kill -9", killed.elapsed()));
    assert_eq!(within(limit, "a webhook", taken(&receiver)).await, VACATED);
    measured(&format!("on a Cluster: told {:?} after kill -9", killed.elapsed()));
    drop(watching);
}
