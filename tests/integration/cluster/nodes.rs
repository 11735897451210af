//! What an operator is told of the nodes of a Cluster: which of them is down, and which of them refuses something.

use tempfile::TempDir;

use super::ALL;
use crate::support::{ClusterSet, Gateway, Output, SOON, eventually, run};

const UP: &str = "ssegate_redis_node_up";
const STREAMS: &str = "\
- { path: \"/log/{key}\", events: { channels: [\"{key}\"], source: stream } }
- { path: \"/shards/{name}\", events: { channels: [\"{name}\"], sharded: true } }
";

/// A key whose slot this node owns.
async fn key_at(set: &ClusterSet, node: usize) -> String {
    for number in 0..1000 {
        let key = format!("k{number}");
        if set.owner(set.slot(&key).await, &[0, 1, 2]).await == node {
            return key;
        }
    }
    panic!("no key is there")
}

async fn verbose(gateway: &Gateway) -> String {
    gateway.admin("/readyz?verbose").await.text().await
}

/// What is said of the nodes and of the fleet, without times.
async fn said(gateway: &Gateway) -> Vec<String> {
    let report = verbose(gateway).await;
    let lines =
        report.lines().filter(|line| line.contains("redis cluster") || line.contains("fleet"));
    lines.map(|line| line.split("; since").next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_down_is_told_alike_by_all_gateways_and_takes_none_away() {
    let mut set = ClusterSet::start().await;
    // Then the others go on while one is away.
    for node in &set.nodes {
        let words = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
        node.command::<String>(&words).await;
    }
    let build =
        |set: &ClusterSet| Gateway::build(&set.nodes[0]).redis_url(&set.url(&[0])).routes(STREAMS);
    let first = build(&set).start().await;
    first.becomes(200, SOON).await;
    first.counts(UP, &[], 3.0).await;
    let report = verbose(&first).await;
    assert!(report.contains("[+] redis cluster ok: 3 of 3 nodes that own slots"), "{report}");

    // Its replica takes its place: the old master has no series any more, and nothing is wrong.
    let node = |at: usize| format!("node=\"127.0.0.1:{}\"", set.nodes[at].port());
    let (old, new, dead) = (node(1), node(4), node(2));
    let key = key_at(&set, 2).await;
    set.nodes[1].kill();
    eventually(4 * SOON, "the replica is told of, and the old master is not", async || {
        let metrics = first.metrics().await;
        metrics.sum(UP, &[&new]) == 1.0 && !metrics.has(UP, &[&old]) && metrics.sum(UP, &[]) == 3.0
    })
    .await;

    // No replica is left for this one.
    set.nodes[5].kill();
    set.nodes[2].kill();
    let second = build(&set).start().await;
    let stream = second.open(&format!("/log/{key}")).await;
    for gateway in [&first, &second] {
        eventually(2 * SOON, "the dead node is told of", async || {
            let metrics = gateway.metrics().await;
            metrics.has(UP, &[&dead]) && metrics.sum(UP, &[&dead]) == 0.0
        })
        .await;
        gateway.logs("a node of the Cluster that owns slots cannot be used").await;
        gateway.becomes(200, SOON).await;
    }
    eventually(2 * SOON, "both say the same", async || {
        let said = [said(&first).await, said(&second).await];
        said[0] == said[1] && said[0].len() == 2
    })
    .await;
    let said = said(&first).await;
    let at =
        format!("1 of 3 nodes that own slots cannot be used: 127.0.0.1:{}", set.nodes[2].port());
    assert!(said[0].starts_with(&format!("[!] redis cluster degraded: {at}: ")), "{said:?}");
    assert!(
        said[1].starts_with("[!] fleet: clients cannot resume at another gateway: node "),
        "{said:?}"
    );
    let page = second.admin("/plain").await.text().await;
    assert!(page.contains("<tr class=trouble><th>Redis Cluster<td>1 of 3"), "{page}");
    drop(stream);

    set.nodes[2].restart().await;
    for gateway in [&first, &second] {
        eventually(4 * SOON, "it can be used again", async || {
            gateway.metrics().await.sum(UP, &[]) == 3.0
        })
        .await;
        gateway.logs("a node of the Cluster that owns slots can be used again").await;
    }
}

/// What `command` says of a Cluster at `url`.
async fn of_file(command: &[&str], url: &str, routes: &str) -> Output {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("gateway.yaml");
    let yaml = format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: off\nredis: {{ url: \"{url}\" }}\nroutes:\n{routes}"
    );
    std::fs::write(&file, yaml).unwrap();
    let file = file.to_str().unwrap();
    run(command.iter().copied().chain(["-c", file])).await
}

/// Gives a user these rights at these nodes, and returns the URL with it.
async fn user(set: &ClusterSet, nodes: &[usize], name: &str, rights: &[&str]) -> String {
    for &at in nodes {
        let begin =
            ["ACL", "SETUSER", name, "reset", "on", ">secret", "allkeys", "allchannels", "+@all"];
        set.nodes[at].command::<String>(&[&begin[..], rights].concat()).await;
    }
    set.url(&[0]).replace("://", &format!("://{name}:secret@"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_are_tried_at_each_master_and_the_one_that_refuses_is_named() {
    let set = ClusterSet::start().await;
    let key = key_at(&set, 0).await;
    let routes = format!(
        "- {{ path: /log, events: {{ channels: [\"{key}\"], source: stream }} }}\n\
         - {{ path: /shards, events: {{ channels: [\"{key}\"], sharded: true }} }}\n\
         - {{ path: /kept, events: {{ channels: [\"a\"], sharded: true, source: recorded }} }}\n\
         - {{ path: /here, events: {{ channels: [\"b\"] }}, presence: {{ identify: \"{{auth.id}}\" }}, \
         auth: {{ tokens: [{{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }}] }} }}\n"
    );
    let check = ["check", "--connect"];
    let url = user(&set, &ALL, "whole", &[]).await;
    let output = of_file(&check, &url, &routes).await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(output.stdout.contains("tried at each of 3 that own slots"), "{output:?}");

    // Neither the key nor the node that is listened through has to do with the third one.
    let port = set.nodes[2].port();
    for (name, less, refused) in [
        ("no-ssub", "-ssubscribe", "SSUBSCRIBE to the channel"),
        ("no-xread", "-xread", "XREAD of the stream"),
        ("no-eval", "-eval", "EVAL"),
        ("no-spub", "-spublish", "with which channels are recorded"),
    ] {
        let url = user(&set, &ALL, name, &[]).await;
        user(&set, &[2], name, &[less]).await;
        let output = of_file(&check, &url, &routes).await;
        assert_eq!(output.code(), 1, "{name}: {output:?}");
        let line = output.stderr.lines().find(|line| line.contains(refused));
        let line = line.unwrap_or_else(|| panic!("{name}: {output:?}"));
        assert!(line.contains(&format!("node 127.0.0.1:{port}: ")), "{line}");
        assert!(line.contains("deploy/redis-users.acl"), "{line}");
        assert!(!output.stderr.contains(&set.nodes[1].port().to_string()), "{output:?}");
    }
    // A user of one node alone.
    let url = user(&set, &[0, 1], "two", &[]).await;
    let output = of_file(&check, &url, &routes).await;
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains(&format!("node 127.0.0.1:{port}: ")), "{output:?}");
    let output = of_file(&["doctor", "--json"], &url, &routes).await;
    let found = output.stdout.lines().find(|line| line.contains(&format!("127.0.0.1:{port}: ")));
    assert!(found.is_some_and(|line| line.contains("\"error\"")), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_without_cluster_slots_is_no_error_and_says_what_it_costs() {
    let set = ClusterSet::start().await;
    // Of the nodes whose address is not in the URL.
    let key = key_at(&set, 2).await;
    let routes = format!(
        "- {{ path: /log, events: {{ channels: [\"{key}\"], source: stream }} }}\n\
         - {{ path: /shards, events: {{ channels: [\"{key}\"], sharded: true }} }}\n"
    );
    let url = user(&set, &ALL, "little", &["-cluster"]).await;
    let output = of_file(&["check", "--connect"], &url, &routes).await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(output.stderr.contains("warning: Redis refused CLUSTER SLOTS: "), "{output:?}");
    assert!(output.stdout.contains("can resume at another gateway: no, because"), "{output:?}");
    // The gateway does, too.
    let gateway = Gateway::build(&set.nodes[0]).redis_url(&url).routes(&routes).start().await;
    gateway.becomes(200, SOON).await;
    let mut stream = gateway.subscribe("/shards").await;
    set.run::<u64>(&["SPUBLISH", &key, "heard"]).await;
    assert_eq!(stream.next_event().await.data, "heard");

    // What publishes goes where the nodes say.
    let publish = |url: String| {
        let key = key.clone();
        async move { run(["pub", "--redis", &url, "--sharded", &key, "by pub"]).await }
    };
    let output = publish(url.clone()).await;
    assert_eq!((output.code(), output.stdout.as_str()), (0, "1 receiver"), "{output:?}");
    assert_eq!(stream.next_event().await.data, "by pub");
    // One that is not told that it is a Cluster says what to do.
    let output = publish(set.nodes[0].url()).await;
    assert_eq!(output.code(), 1, "{output:?}");
    for words in ["SPUBLISH to Redis at 127.0.0.1:", "Moved: ", "write redis+cluster:// in the URL"]
    {
        assert!(output.stderr.contains(words), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_refuses_is_no_plus_while_all_else_works() {
    let set = ClusterSet::start().await;
    let url = user(&set, &ALL, "mute", &["-spublish"]).await;
    let routes = "- { path: \"/kept/{name}\", events: { channels: [\"{name}\"], sharded: true, source: recorded } }\n";
    let gateway = Gateway::build(&set.nodes[0]).redis_url(&url).routes(routes).start().await;
    let _stream = gateway.open("/kept/a").await;
    eventually(SOON, "the refusal is told, and nothing is ok beside it", async || {
        let report = verbose(&gateway).await;
        let of_redis = report.lines().find(|line| line.contains("] redis ")).unwrap_or_default();
        assert!(!of_redis.starts_with("[+] redis ok: "), "{report}");
        let is_told = of_redis.contains("recorded sharded channels: ")
            && of_redis.contains("refused to publish a mark");
        assert!(!is_told || !report.contains("[+] fleet ok"), "{report}");
        is_told
    })
    .await;
}
