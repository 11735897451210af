//! Slots that move from one node of a Redis Cluster to another while much is published.

use std::collections::BTreeMap;

use crate::support::{ClusterSet, EventStream, Gateway, SOON, measured, within};

const MASTERS: [usize; 3] = [0, 1, 2];

const ROUTES: &str = "\
- { path: /logs, events: { channels: [\"{query.channel}\"], source: stream } }
- { path: /shards, events: { channels: [\"{query.channel}\"], sharded: true } }
";

/// How many channels of each kind are published to.
const CHANNELS: usize = 16;

/// What the stream of one channel has read.
#[derive(Default)]
struct ReadNumbers {
    newest: u64,
    gaps: usize,
    unmarked: u64,
    repeated: u64,
    missing: u64,
}

impl ReadNumbers {
    /// Reads until `last` has come.
    async fn read(stream: &mut EventStream, last: u64) -> Self {
        let (mut heard, mut has_gap) = (Self::default(), false);
        while heard.newest < last {
            let event = within(4 * SOON, "an event", stream.event()).await;
            let event = event.expect("the stream is open");
            if event.name == "gap" {
                heard.gaps += 1;
                has_gap = true;
                continue;
            }
            let number: u64 = event.data.parse().unwrap();
            match number.checked_sub(heard.newest + 1) {
                None => heard.repeated += 1,
                Some(missing) => {
                    heard.missing += missing;
                    heard.unmarked += if has_gap { 0 } else { missing };
                    heard.newest = number;
                    has_gap = false;
                }
            }
        }
        heard
    }
}

/// Moves so many slots while numbers are published to channels in them. Says what was read of both kinds.
async fn reshard(slots: usize) {
    let set = ClusterSet::start().await;
    let url = set.url(&[3, 4]);
    let gateway = Gateway::build(&set.nodes[0]).redis_url(&url).routes(ROUTES).start().await;
    gateway.becomes(200, SOON).await;
    let from = 0;
    // The slots that move, the channels spread over them.
    let tags: Vec<String> = (0..slots).map(|at| set.tag(u16::try_from(at).unwrap())).collect();
    let names: Vec<String> =
        (0..CHANNELS).map(|at| format!("{at}{{{}}}", tags[at * slots / CHANNELS])).collect();
    let encoded = |name: &str| name.replace('{', "%7B").replace('}', "%7D");
    let (mut logs, mut shards) = (Vec::new(), Vec::new());
    for name in &names {
        logs.push(gateway.subscribe(&format!("/logs?channel={}", encoded(name))).await);
        let name = format!("s{}", encoded(name));
        shards.push(gateway.subscribe(&format!("/shards?channel={name}")).await);
    }
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let publishing = async {
        let mut number = 0;
        // Three times after the last move, so that everybody hears the last one.
        let mut left = 3;
        while left > 0 {
            number += 1;
            let data = number.to_string();
            for name in &names {
                set.run::<String>(&["XADD", name, "*", "data", &data]).await;
                set.run::<u64>(&["SPUBLISH", &format!("s{name}"), &data]).await;
            }
            if is_done.load(std::sync::atomic::Ordering::Relaxed) {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                left -= 1;
            }
        }
        number
    };
    let moving = async {
        for at in 0..slots {
            set.move_slot(u16::try_from(at).unwrap(), from, 1 + at % 2).await;
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (last, ()) = tokio::join!(publishing, moving);
    let mut figures: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, streams) in [("entries", &mut logs), ("messages", &mut shards)] {
        for stream in streams {
            let heard = ReadNumbers::read(stream, last).await;
            assert_eq!((heard.repeated, heard.unmarked), (0, 0), "{kind}");
            if kind == "entries" {
                assert_eq!((heard.missing, heard.gaps), (0, 0), "{kind}");
            }
            assert!(heard.gaps <= 1, "{kind}: a slot has moved once: {} gaps", heard.gaps);
            *figures.entry("published").or_default() += last;
            *figures.entry("missing behind a gap").or_default() += heard.missing;
            *figures.entry("gaps").or_default() += heard.gaps as u64;
        }
    }
    assert_eq!(set.owner(0, &MASTERS).await, 1, "it has moved");
    measured(&format!("{slots} slots moved: {figures:?}"));
    assert_eq!(
        gateway.metrics().await.sum("ssegate_streams", &[]),
        2.0 * CHANNELS as f64,
        "no stream was closed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load_and_no_message_is_missing_without_a_gap() {
    Box::pin(reshard(16)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moves a hundred slots"]
async fn long_a_hundred_slots_move_under_load() {
    Box::pin(reshard(100)).await;
}
