//! Sharded channels of a Cluster and several gateways: a client that comes to another one has missed nothing, or is told so.

use std::time::Duration;

use crate::support::{
    ClusterSet, EventStream, Gateway, GatewayBuilder, SOON, Via, eventually, within,
};

const MASTERS: [usize; 3] = [0, 1, 2];
pub(super) const KEY: &str = "fleet: { key: \"a fleet key of thirty-two bytes or more\" }";
pub(super) const ROUTES: &str =
    "- { path: /shards, events: { channels: [\"{query.channel}\"], sharded: true } }\n";

fn build(set: &ClusterSet, url: &str) -> GatewayBuilder {
    Gateway::build(&set.nodes[0]).redis_url(url).routes(ROUTES)
}

async fn start(set: &ClusterSet) -> Gateway {
    let gateway = build(set, &set.url(&MASTERS)).settings(KEY).start().await;
    gateway.becomes(200, 2 * SOON).await;
    gateway
}

pub(super) fn target(channels: &[&str]) -> String {
    let encoded = channels.iter().map(|name| name.replace('{', "%7B").replace('}', "%7D"));
    let names: Vec<String> = encoded.map(|name| format!("channel={name}")).collect();
    format!("/shards?{}", names.join("&"))
}

/// Whether other gateways can know what an id means, of each of so many channels.
fn is_named(id: &str, channels: usize) -> bool {
    let parts: Vec<&str> = match channels {
        1 => vec![id],
        _ => id.split('*').skip(1).filter_map(|part| Some(part.split_once('=')?.1)).collect(),
    };
    parts.len() == channels && parts.iter().all(|part| part.splitn(3, '-').nth(2).is_some())
}

/// Opens a stream, and waits until its client has an id that other gateways can know.
pub(super) async fn open(gateway: &Gateway, via: Via, channels: &[&str]) -> EventStream {
    let mut stream = gateway.subscribe_via(via, &target(channels)).await;
    within(SOON, "an id with names", async {
        while !is_named(stream.last_id(), channels.len()) {
            let block = stream.next_block().await;
            assert_eq!(block.event, None, "nothing was published");
        }
    })
    .await;
    stream
}

async fn publish(set: &ClusterSet, channel: &str, data: &str) -> u64 {
    Box::pin(set.run::<u64>(&["SPUBLISH", channel, data])).await
}

/// Comes with this id, and reads until `last`, which is published once it is subscribed.
async fn comes_to(
    (set, gateway, via): (&ClusterSet, &Gateway, Via),
    channels: &[&str],
    id: &str,
) -> Vec<String> {
    let mut stream = gateway.resume(via, &target(channels), id).await;
    let mut read = stream.read_until_ready().await;
    publish(set, channels[0], "last").await;
    read.append(&mut stream.read_until("last").await);
    read
}

/// A channel that this master owns.
async fn channel_at(set: &ClusterSet, master: usize, prefix: &str) -> String {
    let slot = [0, 5461, 10923][master];
    let name = format!("{prefix}{{{}}}", set.tag(slot));
    assert_eq!(set.slot(&name).await, slot);
    name
}

pub(super) fn gaps(read: &[String]) -> usize {
    read.iter().filter(|data| data.starts_with("gap")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_sharded_channels_move_between_gateways_without_a_gap_and_without_a_repeat() {
    let set = ClusterSet::start().await;
    let gateways = [start(&set).await, start(&set).await];
    for via in [Via::Http1, Via::Http2] {
        // Of one node, and of all three.
        for count in [1, 3] {
            let mut names = Vec::new();
            for master in &MASTERS[..count] {
                names.push(channel_at(&set, *master, &format!("{via:?}:{count}:")).await);
            }
            let channels: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut followers = [
                open(&gateways[0], via, &channels).await,
                open(&gateways[1], via, &channels).await,
            ];
            for channel in &channels {
                publish(&set, channel, "first").await;
                for follower in &mut followers {
                    assert_eq!(follower.next_event().await.data, "first");
                }
            }
            let mut id = followers[0].last_id().to_owned();
            let (rounds, per_round) = (6, 9);
            let publishing = async {
                for number in 0..rounds * per_round {
                    let data = number.to_string();
                    assert_eq!(publish(&set, channels[number % count], &data).await, 2);
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..8))).await;
                }
            };
            let reading = async {
                let mut read = Vec::new();
                for round in 0..rounds {
                    let gateway = &gateways[(round + 1) % 2];
                    let mut stream = gateway.resume(via, &target(&channels), &id).await;
                    for _ in 0..per_round {
                        let event = stream.next_event().await;
                        assert_eq!(event.name, "message", "{}", event.data);
                        read.push(event.data.parse::<usize>().unwrap());
                        id = event.id;
                    }
                }
                read
            };
            let ((), mut read) = tokio::join!(publishing, reading);
            // Between channels there is no order.
            read.sort_unstable();
            assert_eq!(read, (0..rounds * per_round).collect::<Vec<_>>());
            let read = comes_to((&set, &gateways[0], via), &channels, &id).await;
            assert_eq!(read, ["last"]);
        }
    }
    // A gateway that starts asks what the others follow; one that drains answers. A quiet channel, too.
    let channels: Vec<String> = {
        let mut names = Vec::new();
        for master in MASTERS {
            names.push(channel_at(&set, master, "quiet:").await);
        }
        names
    };
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let stream = open(&gateways[0], Via::Http1, &channels).await;
    let id = stream.last_id().to_owned();
    let third = start(&set).await;
    let [mut first, _second] = gateways;
    publish(&set, channels[1], "meanwhile").await;
    first.terminate();
    first.exit_within(4 * SOON).await;
    let read = comes_to((&set, &third, Via::Http2), &channels, &id).await;
    assert_eq!(read, ["meanwhile", "last"]);
    assert_eq!(third.metrics().await.sum("ssegate_fleet_clients_total", &["result=\"gap\""]), 0.0);
    // Forged and cut ids are gaps.
    for forged in
        [&id[..id.len() - 1], &id[..id.len() / 2], "1*0~0=zzzzzz-1-AAAAAAAAAAAAAAAAAAAAAAA"]
    {
        let read = comes_to((&set, &third, Via::Http1), &channels, forged).await;
        let meanwhile = read.iter().filter(|data| *data == "meanwhile").count();
        assert!(gaps(&read) >= 1 && meanwhile <= 1, "{forged}: {read:?}");
    }
    assert!(!third.log().contains("\"WARN\""), "{}", third.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_and_a_node_that_is_killed_are_gaps_elsewhere_and_nothing_comes_twice() {
    let mut set = ClusterSet::start().await;
    let gateways = [start(&set).await, start(&set).await];
    let moved = channel_at(&set, 0, "moved:").await;
    let stays = channel_at(&set, 1, "stays:").await;
    let via = Via::H2c;
    let both = [moved.as_str(), stays.as_str()];
    let mut streams = [open(&gateways[0], via, &both).await, open(&gateways[1], via, &both).await];
    for channel in both {
        publish(&set, channel, "before").await;
        for stream in &mut streams {
            assert_eq!(stream.next_event().await.data, "before");
        }
    }
    let before = streams[0].last_id().to_owned();
    let slot = set.slot(&moved).await;
    set.move_slot(slot, 0, 2).await;
    let heard_at_both = async |set: &ClusterSet| {
        eventually(4 * SOON, "both gateways hear it", async || {
            publish(set, &moved, "again").await == 2
        })
        .await;
    };
    heard_at_both(&set).await;
    publish(&set, &moved, "moved").await;
    for stream in &mut streams {
        let read = stream.read_until("moved").await;
        // Between the two steps of the end of a move the old owner takes a subscription once more.
        assert!((1..=2).contains(&gaps(&read)), "{read:?}");
    }
    // An id from before: a gap of the channel that has moved, and of no other.
    let read = comes_to((&set, &gateways[1], via), &both, &before).await;
    let told = |data: &&String| data.starts_with("gap");
    assert!(read.iter().any(|data| data.starts_with("gap") && data.contains(&moved)), "{read:?}");
    assert!(read.iter().filter(told).all(|data| !data.contains(&stays)), "{read:?}");
    assert!(!read.contains(&"before".to_owned()), "{read:?}");
    assert!(read.iter().filter(|data| *data == "moved").count() <= 1, "{read:?}");
    // One from there moves again without one.
    let mut stream = open(&gateways[0], via, &[&moved]).await;
    publish(&set, &moved, "there").await;
    stream.read_until("there").await;
    within(SOON, "an id with a name", async {
        while !is_named(stream.last_id(), 1) {
            publish(&set, &moved, "there").await;
            stream.next_block().await;
        }
    })
    .await;
    let id = stream.last_id().to_owned();
    let read = comes_to((&set, &gateways[1], via), &[&moved], &id).await;
    assert!(read.iter().all(|data| data == "there" || data == "last"), "{read:?}");

    // Its node is killed: the replica is another server with an order of its own.
    set.nodes[2].kill();
    heard_at_both(&set).await;
    publish(&set, &moved, "failed over").await;
    for stream in &mut streams {
        let read = stream.read_until("failed over").await;
        assert!((1..=2).contains(&gaps(&read)), "{read:?}");
    }
    let read = comes_to((&set, &gateways[1], via), &[&moved], &id).await;
    assert!(gaps(&read) >= 1, "{read:?}");
    assert!(read.iter().filter(|data| *data == "failed over").count() <= 1, "{read:?}");
    // The others are not affected: one that starts now is ready, and knows them.
    let third = start(&set).await;
    let quiet = open(&gateways[0], via, &[&stays]).await;
    let read = comes_to((&set, &third, via), &[&stays], quiet.last_id()).await;
    assert_eq!(read, ["last"]);
    // A gateway that is killed has told nobody, and its clients miss nothing.
    let id = quiet.last_id().to_owned();
    drop(gateways);
    publish(&set, &stays, "while it was away").await;
    let read = comes_to((&set, &third, via), &[&stays], &id).await;
    assert!(gaps(&read) == 0 && read.contains(&"while it was away".to_owned()), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_sharded_channels_can_be_resumed_elsewhere_is_told() {
    let set = ClusterSet::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let url = set.url_with_shipped_rights(&MASTERS).await;
    let allowed = build(&set, &url);
    let said = allowed.program(dir.path(), "check").args(["--connect"]).output(2 * SOON).await;
    let yes = "fleet: clients of sharded channels can resume at another gateway: yes";
    assert!(said.stdout.contains(yes), "{} {}", said.stdout, said.stderr);
    let gateway = allowed.start().await;
    gateway.becomes(200, 2 * SOON).await;
    let verbose = gateway.admin("/readyz?verbose").await.text().await;
    let told = "clients of sharded channels can resume at another gateway";
    assert!(verbose.contains(told), "{verbose}");

    // A user without the right, which the feature says once.
    for node in &set.nodes {
        let rights = "on nopass ~* resetchannels &* +@all -publish -spublish";
        let words = ["ACL", "SETUSER", "mute"].into_iter().chain(rights.split(' '));
        node.command::<String>(&words.collect::<Vec<_>>()).await;
    }
    let mute = build(&set, &set.url(&MASTERS).replace("://", "://mute:x@"));
    let said = mute.program(dir.path(), "check").args(["--connect"]).output(2 * SOON).await;
    let no = "clients of sharded channels can resume at another gateway: no, because node ";
    assert!(said.stdout.contains(no) && said.stdout.contains("PUBLISH"), "{}", said.stdout);
    let mute = mute.start().await;
    mute.becomes(200, 4 * SOON).await;
    let name = channel_at(&set, 0, "a:").await;
    let mut stream = mute.subscribe(&target(&[&name])).await;
    publish(&set, &name, "heard").await;
    assert_eq!(stream.next_event().await.data, "heard");
    mute.logs("clients cannot resume at another gateway").await;
    let warned = mute.admin("/readyz?verbose").await.text().await;
    assert!(warned.contains("clients cannot resume at another gateway: node "), "{warned}");
    let mut back = gateway.resume(Via::Http1, &target(&[&name]), stream.last_id()).await;
    assert_eq!(back.next_event().await.name, "gap");
}
