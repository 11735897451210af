//! What is published in a storm, and where its clients may connect.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Redis, SOON};

/// How much of a storm.
#[derive(Clone, Copy)]
pub(super) struct Force {
    pub(super) clients: usize,
    pub(super) channels: usize,
    pub(super) per_second: usize,
    pub(super) lasts: Duration,
}

/// A few seconds, also on a busy machine.
pub(super) const SHORT: Force =
    Force { clients: 60, channels: 20, per_second: 1000, lasts: Duration::from_secs(4) };
/// What is promised.
pub(super) const FULL: Force =
    Force { clients: 200, channels: 50, per_second: 5000, lasts: Duration::from_secs(30) };

/// Where the events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    PubSub,
    Streams,
}
/// What is published on each channel: its numbers, from 0.
pub(super) struct Sea {
    pub(super) source: Source,
    /// The number that comes next on each channel; raised before it is sent.
    pub(super) next: Vec<AtomicUsize>,
    /// Nothing more comes.
    pub(super) is_calm: AtomicBool,
    /// Where a client may connect.
    pub(super) gateways: RwLock<Vec<SocketAddr>>,
    /// How often the source has been away so far.
    pub(super) outages: AtomicUsize,
    /// How often a client has come to a stream.
    pub(super) voyages: AtomicUsize,
}

impl Sea {
    pub(super) fn new(source: Source, force: Force, gateways: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            source,
            next: (0..force.channels).map(|_| AtomicUsize::new(0)).collect(),
            is_calm: AtomicBool::new(false),
            gateways: RwLock::new(gateways),
            outages: AtomicUsize::new(0),
            voyages: AtomicUsize::new(0),
        })
    }

    /// Publishes the next numbers, some on each channel in turn.
    pub(super) async fn publish(&self, redis: &Redis, force: Force) {
        const TURN: Duration = Duration::from_millis(20);
        let end = Instant::now() + force.lasts;
        // On a busy machine it may take longer until each has come, hung up, and come back.
        let has_been_long = || {
            let voyages = self.voyages.load(Ordering::SeqCst);
            let now = Instant::now();
            now >= end && (voyages >= force.clients * 2 || now >= end + 4 * SOON)
        };
        let mut turn = tokio::time::interval(TURN);
        let in_a_turn = force.per_second / 50;
        let mut at = 0;
        while !has_been_long() {
            turn.tick().await;
            let messages: Vec<(String, String)> = (0..in_a_turn)
                .map(|_| {
                    at = (at + 1) % force.channels;
                    let number = self.next[at].fetch_add(1, Ordering::SeqCst);
                    (format!("c{at}"), format!("{at}:{number}"))
                })
                .collect();
            self.send(redis, &messages).await;
        }
    }

    /// One message on each channel, so that everybody sees the end.
    pub(super) async fn calm(&self, redis: &Redis) {
        for (channel, next) in self.next.iter().enumerate() {
            let number = next.fetch_add(1, Ordering::SeqCst);
            self.send(redis, &[(format!("c{channel}"), format!("{channel}:{number}"))]).await;
        }
        self.is_calm.store(true, Ordering::SeqCst);
    }

    async fn send(&self, redis: &Redis, messages: &[(String, String)]) {
        let is_sent = match self.source {
            Source::PubSub => redis.try_publish(messages).await,
            Source::Streams => redis.try_add(messages).await,
        };
        assert!(is_sent, "redis-server runs while something is published");
    }

    pub(super) fn next(&self, channel: usize) -> usize {
        self.next[channel].load(Ordering::SeqCst)
    }
}
