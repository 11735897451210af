//! A Redis Cluster: all channels through one node, and another when that is gone, cut off or deaf.

mod failover;
mod keys;
mod marks;
mod nodes;
mod one_server;
mod recorded;
mod resharding;
mod sharded;

use crate::support::{ClusterSet, Gateway, Redis, Request, SOON, Via, eventually};

const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];
const PUBLISH: &str = "\
- { path: /events, events: { channels: [\"{query.channel}\"], patterns: true } }
- { path: \"/publish/{channel}\", publish: {}, auth: { tokens: [{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }] } }
";

async fn start(set: &ClusterSet, nodes: &[usize]) -> Gateway {
    let gateway = Gateway::build(&set.nodes[0]).redis_url(&set.url(nodes)).routes(PUBLISH);
    let gateway = gateway.start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

const GAP: &str = "gap {\"reason\":\"redis_away\",\"channels\":[\"news\",\"sport:*\"]}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_at_any_node_is_heard_once_whatever_node_falls_silent() {
    let mut set = ClusterSet::start().await;
    // One that may do little else uses the nodes of its URL.
    for node in &set.nodes {
        let rights = "on nopass resetchannels &* -@all +hello +ping +subscribe +psubscribe";
        let words: Vec<&str> =
            ["ACL", "SETUSER", "little"].into_iter().chain(rights.split(' ')).collect();
        node.command::<String>(&words).await;
    }
    let url = set.url(&[0, 1]).replace("://", "://little:x@");
    let little = Gateway::build(&set.nodes[0]).redis_url(&url).start().await;
    little.logs("does not let the gateway ask for the nodes of the Cluster").await;
    let mut stream = little.subscribe("/events/news").await;
    set.nodes[5].publish("news", "heard").await;
    assert_eq!(stream.next_event().await.data, "heard");
    drop((stream, little));

    // A replica hears the same. It names the others.
    let gateway = start(&set, &[3]).await;
    let mut stream = gateway.subscribe_via(Via::H2c, "/events?channel=news&channel=sport:*").await;
    let mut expected = Vec::new();
    for (at, node) in set.nodes.iter().enumerate() {
        for channel in ["news", "sport:tennis"] {
            let text = format!("{channel} at {at}");
            node.publish(channel, &text).await;
            assert_eq!(stream.next_event().await.data, text, "in order, if one publishes");
            expected.push(text);
        }
    }
    assert_eq!(set.listening("news", &ALL).await, [3]);

    // Over HTTP.
    let publish =
        Request::new("POST", "/publish/news").header("authorization", "Bearer cron-token");
    let response = gateway.send(Via::Http1, publish.clone().body(b"posted")).await;
    assert_eq!(response.status, 200);
    assert_eq!(stream.next_event().await.data, "posted");
    for _ in 0..2 {
        let once = publish.clone().header("idempotency-key", "1").body(b"once");
        assert_eq!(gateway.send(Via::Http1, once).await.status, 200);
    }
    assert_eq!(stream.next_event().await.data, "once");
    assert!(!gateway.log().contains("\"WARN\""), "{}", gateway.log());

    // It is cut off: it forgets the others, and its subscribers stay.
    set.nodes[3].command::<String>(&["CLUSTER", "RESET"]).await;
    assert_eq!(stream.read_until_heard(&set.nodes[1], "news").await, [GAP, "last"]);
    let left = set.listening("news", &ALL).await;
    assert!(left.len() == 1 && left != [3], "{left:?}");
    gateway.counts("ssegate_redis_self_checks_total", &["result=\"mended\""], 1.0).await;

    // It is killed.
    set.nodes[left[0]].kill();
    let alive: Vec<usize> = ALL.into_iter().filter(|at| *at != left[0] && *at != 3).collect();
    assert_eq!(stream.read_until_heard(&set.nodes[alive[0]], "news").await, [GAP, "last"]);
    eventually(SOON, "one of the others is listened through", async || {
        set.listening("news", &alive).await.len() == 1
    })
    .await;
    gateway.becomes(200, SOON).await;
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 1.0, "no stream was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_passed_on_while_the_owners_of_some_keys_are_away() {
    let mut set = ClusterSet::start().await;
    let gateway = start(&set, &[0]).await;
    let mut stream = gateway.subscribe("/events?channel=news").await;
    // A master and its replica: no node serves their keys, and all say so.
    set.nodes[2].kill();
    set.nodes[5].kill();
    let state = async |at: usize| {
        let info: String = set.nodes[at].command(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:fail")
    };
    for at in [0, 1, 3, 4] {
        eventually(4 * SOON, "the Cluster has failed", async || state(at).await).await;
    }
    let agreed = ("ssegate_redis_self_checks_total", ["result=\"agreed\""]);
    let before = gateway.metrics().await.sum(agreed.0, &agreed.1);
    gateway.counts(agreed.0, &agreed.1, before + 1.0).await;
    set.nodes[1].publish("news", "still").await;
    assert_eq!(stream.next_event().await.data, "still");
    // One that starts now finds no node that sees the whole Cluster.
    let second = start(&set, &[4]).await;
    let mut stream = second.subscribe("/events?channel=news").await;
    set.nodes[0].publish("news", "also there").await;
    assert_eq!(stream.next_event().await.data, "also there");
}

#[tokio::test]
async fn what_is_no_cluster_is_named() {
    let redis = Redis::start().await;
    let url = redis.url().replace("redis://", "redis+cluster://");
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;
    gateway.logs("this is no node of a Redis Cluster; write redis:// in redis.url").await;
    let dir = tempfile::TempDir::new().unwrap();
    let node = Redis::cluster_node().await;
    let url = node.url().replace("redis://", "redis+cluster://");
    let builder = Gateway::build(&node).redis_url(&url);
    let check = builder.program(dir.path(), "check").args(["--connect"]);
    let said = check.output(SOON).await.stdout;
    assert!(said.contains("through the node") && said.contains("fleet: off"), "{said}");
}
