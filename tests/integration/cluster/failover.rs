//! A master and its replica that change places again and again, while messages are published at both.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::sharded::listening;
use crate::support::{ClusterSet, EventStream, Gateway, SOON, eventually, measured, within};

const ROUTES: &str =
    "- { path: /shards, events: { channels: [\"{query.channel}\"], sharded: true } }\n";
/// The masters, each with its replica, and a slot of theirs.
const PAIRS: [([usize; 2], u16); 3] = [([0, 3], 7), ([1, 4], 5461), ([2, 5], 10923)];
/// The time between two messages of one publisher.
const PAUSE: Duration = Duration::from_millis(16);
/// How much of what was read before is told with a mistake.
const RECENT: usize = 24;

/// What a stream has read of the messages of several publishers, each of which numbers its own.
#[derive(Debug, Default)]
struct FailoverReadings {
    /// The newest number of each publisher, and how many gaps had been told before it.
    newest: HashMap<String, (u64, usize)>,
    gaps: usize,
    messages: u64,
    missing: u64,
    /// Those that came again, or behind a later one, each with what was read before.
    repeated: Vec<String>,
    recent: VecDeque<String>,
    /// Those behind which something is missing without a gap.
    unmarked: Vec<String>,
}

impl FailoverReadings {
    /// Reads until `last` has come.
    async fn read(stream: &mut EventStream, last: &str) -> Self {
        let mut readings = Self::default();
        loop {
            let event = within(4 * SOON, "an event", stream.event()).await;
            let event = event.expect("the stream is open");
            readings.recent.push_back(event.data.clone());
            if readings.recent.len() > RECENT {
                readings.recent.pop_front();
            }
            match event.name.as_str() {
                "gap" => readings.gaps += 1,
                _ if event.data == last => return readings,
                _ => readings.take(&event.data),
            }
        }
    }

    fn take(&mut self, data: &str) {
        let Some((publisher, number)) = data.split_once(':') else { return };
        let number: u64 = number.parse().unwrap();
        let newest = self.newest.entry(publisher.to_owned()).or_insert((0, self.gaps));
        match number.checked_sub(newest.0 + 1) {
            None => self.repeated.push(format!("{data} behind {:?}", self.recent)),
            Some(missing) => {
                if missing > 0 && newest.1 == self.gaps {
                    self.unmarked.push(format!("{data} behind {:?}", self.recent));
                }
                self.missing += missing;
                self.messages += 1;
                *newest = (number, self.gaps);
            }
        }
    }
}

/// Publishes numbers at one node, whatever it is: a replica takes them, too.
async fn publish_at(set: &ClusterSet, at: usize, channel: &str, is_done: &AtomicBool) {
    let mut number = 1_u64;
    while !is_done.load(Ordering::Relaxed) {
        let data = format!("{at}:{number}");
        // What it refuses is published under the next try, with the same number.
        if set.nodes[at].try_command(&["SPUBLISH", channel, &data]).await {
            number += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets these change places and change back, one pair after the other. Not more often: a node remembers its last election for
/// seconds, and takes its votes for those of the next one.
async fn change_places(pairs: &[([usize; 2], u16)]) {
    let set = ClusterSet::start().await;
    let url = set.url(&[1, 2]);
    let gateway = Gateway::build(&set.nodes[0]).redis_url(&url).routes(ROUTES).start().await;
    gateway.becomes(200, SOON).await;
    for (pair, slot) in pairs {
        Box::pin(fail_over((&set, &gateway), *pair, *slot)).await;
    }
}

/// Lets the owner of this slot and its replica change places and change back, while both are published to.
async fn fail_over((set, gateway): (&ClusterSet, &Gateway), pair: [usize; 2], slot: u16) {
    let rounds = 2;
    let tag = set.tag(slot);
    let channel = format!("c{{{tag}}}");
    let mut stream = gateway.subscribe(&format!("/shards?channel=c%7B{tag}%7D")).await;
    let is_done = AtomicBool::new(false);
    let publishing = async {
        tokio::join!(
            publish_at(set, pair[0], &channel, &is_done),
            publish_at(set, pair[1], &channel, &is_done)
        );
    };
    let begun = Cell::new(0_usize);
    let failing_over = async {
        for round in 0..rounds {
            let next = pair[(round + 1) % 2];
            let mut tries = 0_u32;
            eventually(4 * SOON, "they have changed places, and the gateway too", async || {
                let is_replica =
                    async |at: usize| set.nodes[at].role().await.as_deref() == Some("slave");
                // Again only if it has come to nothing, or was undone: each begins anew.
                if tries.is_multiple_of(100) && is_replica(next).await {
                    begun.set(begun.get() + 1);
                    set.nodes[next].try_command(&["CLUSTER", "FAILOVER"]).await;
                }
                tries += 1;
                is_replica(pair[round % 2]).await && listening(set, &channel, &pair).await == [next]
            })
            .await;
        }
        is_done.store(true, Ordering::Relaxed);
    };
    let reading = async {
        let last = async {
            while !is_done.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSE).await;
            }
            // Until it is heard.
            loop {
                set.run::<u64>(&["SPUBLISH", &channel, "last"]).await;
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            read = FailoverReadings::read(&mut stream, "last") => read,
            () = last => unreachable!("it publishes until it is heard"),
        }
    };
    let ((), (), read) = tokio::join!(publishing, failing_over, reading);
    let FailoverReadings { gaps, messages, missing, repeated, unmarked, .. } = read;
    measured(&format!(
        "{rounds} failovers: {messages} messages, {missing} missing, {gaps} gaps, repeated {repeated:?}, unmarked {unmarked:?}"
    ));
    assert!(repeated.is_empty(), "came twice: {repeated:?}");
    assert!(unmarked.is_empty(), "missing without a gap: {unmarked:?}");
    // One that was undone, and begun anew, is two more.
    let most = rounds + 2 * begun.get().saturating_sub(rounds);
    assert!((rounds..=most).contains(&gaps), "one for each: {gaps} of {}", begun.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_a_replica_takes_the_place_of_its_master_comes_once() {
    Box::pin(change_places(&PAIRS[..1])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts six Clusters, and lets all masters and replicas change places"]
async fn long_what_is_published_during_thirty_six_failovers_comes_once() {
    for _ in 0..6 {
        Box::pin(change_places(&PAIRS)).await;
    }
}
