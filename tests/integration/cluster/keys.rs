//! What is in keys on a Redis Cluster: streams, what is published to them, and revocations.

use crate::support::{ClusterSet, Gateway, Request, SOON, Via, eventually};

const MASTERS: [usize; 3] = [0, 1, 2];

const ROUTES: &str = "\
- { path: /logs, events: { channels: [\"{query.channel}\"], source: stream } }
- { path: \"/tenants/{tenant}\", events: { channels: [\"orders-{{{tenant}}}-new\", \"orders-{{{tenant}}}-paid\"], source: stream } }
- { path: \"/publish\", publish: { channels: [\"{query.channel}\"] }, auth: { tokens: [{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }] } }
";

async fn start(set: &ClusterSet, nodes: &[usize]) -> Gateway {
    start_at(set, &set.url(nodes)).await
}

async fn start_at(set: &ClusterSet, url: &str) -> Gateway {
    let gateway = Gateway::build(&set.nodes[0]).redis_url(url).routes(ROUTES).start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

async fn add(set: &ClusterSet, stream: &str, data: &str) -> String {
    set.run(&["XADD", stream, "*", "data", data]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_read_and_written_at_the_owners_of_their_slots() {
    let set = ClusterSet::start().await;
    let gateway = start(&set, &[1]).await;
    // Keys of all three masters.
    let names = ["foo", "bar", "news"];
    let mut live = gateway.subscribe("/logs?channel=foo&channel=bar&channel=news").await;
    let mut tenant = gateway.subscribe("/tenants/7").await;
    for name in names {
        add(&set, name, name).await;
        assert_eq!(live.next_event().await.data, name);
    }
    let resumed_from = live.last_id().to_owned();
    for state in ["new", "paid"] {
        add(&set, &format!("orders-{{7}}-{state}"), state).await;
        assert_eq!(tenant.next_event().await.data, state);
    }

    // Over HTTP, all at once, and with a key only once.
    for attempt in 0..2 {
        let request = Request::new("POST", "/publish?channel=foo&channel=bar&channel=news")
            .header("authorization", "Bearer cron-token")
            .header("idempotency-key", "1")
            .body(b"posted");
        let response = gateway.send(Via::Http1, request).await;
        let (status, text) = (response.status, response.text().await);
        assert_eq!(status, 200, "{attempt}: {text}");
    }
    for _ in names {
        assert_eq!(live.next_event().await.data, "posted");
    }
    let length: u64 = set.run(&["XLEN", "foo"]).await;
    assert_eq!(length, 2, "it was not repeated");

    // One that comes back is sent what it missed, out of the streams.
    let second = start(&set, &[2]).await;
    let target = "/logs?channel=foo&channel=bar&channel=news";
    let mut back = second.resume(Via::H2c, target, &resumed_from).await;
    for _ in names {
        assert_eq!(back.next_event().await.data, "posted");
    }
    assert!(!gateway.log().contains("\"WARN\""), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_is_lost_or_repeated_while_the_slot_of_its_stream_moves() {
    let set = ClusterSet::start().await;
    let gateway = start_at(&set, &set.url_with_shipped_rights(&[0]).await).await;
    let target = "/tenants/7";
    let mut live = gateway.subscribe(target).await;
    let slot = set.slot("orders-{7}-new").await;
    let mut expected = Vec::new();
    let mut owner = set.owner(slot, &MASTERS).await;
    let mut number = 0;
    // Both streams are there; one is; none was.
    for _round in 0..3 {
        let next = (owner + 1) % 3;
        let mut entries = async |count: usize| {
            let mut added = Vec::new();
            for at in 0..count {
                let state = ["new", "paid"][at % 2];
                number += 1;
                let data = number.to_string();
                add(&set, &format!("orders-{{7}}-{state}"), &data).await;
                added.push(data);
            }
            added
        };
        expected.append(&mut entries(4).await);
        set.begin_move(slot, owner, next).await;
        expected.append(&mut entries(4).await);
        set.move_keys(slot, owner, next).await;
        expected.append(&mut entries(4).await);
        set.end_move(slot, owner, next).await;
        expected.append(&mut entries(4).await);
        owner = next;
    }
    let mut read = Vec::new();
    for _ in &expected {
        let event = live.next_event().await;
        read.push(format!("{}{}", event.name, event.data));
    }
    read.sort_by_key(|data| data.trim_start_matches("message").parse::<u64>().ok());
    let bare: Vec<_> = read.iter().map(|data| data.trim_start_matches("message")).collect();
    assert_eq!(bare, expected);
    let mut back = gateway.resume(Via::Http1, target, live.last_id()).await;
    back.ready().await;
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 2.0, "no stream was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_at_the_replica_of_a_node_that_was_killed() {
    let mut set = ClusterSet::start().await;
    let gateway = start(&set, &[0, 1, 2]).await;
    let mut live = gateway.subscribe("/logs?channel=foo&channel=bar").await;
    let slot = set.slot("foo").await;
    let owner = set.owner(slot, &MASTERS).await;
    add(&set, "foo", "before").await;
    assert_eq!(live.next_event().await.data, "before");
    // Its replica has it.
    eventually(2 * SOON, "it is replicated", async || {
        set.nodes[owner].command::<u64>(&["WAIT", "1", "500"]).await == 1
    })
    .await;
    set.nodes[owner].kill();
    // The stream of another node does not wait.
    add(&set, "bar", "meanwhile").await;
    assert_eq!(live.next_event().await.data, "meanwhile");
    add(&set, "foo", "after").await;
    let event = live.next_event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("message", "after"));
    eventually(SOON, "it is ready", async || gateway.readiness().await == 200).await;
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 1.0, "no stream was closed");
}
