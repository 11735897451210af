//! What is published in a storm, and where its clients may connect.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Redis, SOON, eventually};

/// How much of a storm.
#[derive(Clone, Copy, Debug)]
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
    /// Published, and recorded by gateways.
    Recorded,
}

/// Where a storm publishes.
pub(super) trait StormPublisher {
    /// Publishes pairs of channel and payload. Returns whether that was possible.
    async fn send(&self, source: Source, messages: &[(String, String)]) -> bool;
}

impl StormPublisher for Redis {
    async fn send(&self, source: Source, messages: &[(String, String)]) -> bool {
        match source {
            Source::PubSub | Source::Recorded => self.try_publish(messages).await,
            Source::Streams => self.try_add(messages).await,
        }
    }
}

/// What a storm over several gateways asks of its clients and messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct FleetPlan {
    /// Each payload is filled up to this length.
    pub(super) bytes: usize,
    /// How long a client stays at one gateway, at most.
    pub(super) longest_voyage: Duration,
    /// So many clients never leave each gateway.
    pub(super) stayers: usize,
    /// Only the streams at this gateway may miss something in an outage.
    pub(super) outages_at: Option<usize>,
}

/// What is published on each channel: its numbers, from 0, or the same again and again.
pub(super) struct Sea {
    pub(super) source: Source,
    pub(super) force: Force,
    pub(super) fleet: Option<FleetPlan>,
    /// The number that comes next on each channel; raised before it is sent.
    next: Vec<AtomicUsize>,
    /// Clients are there, and messages come.
    has_begun: AtomicBool,
    /// Something is being done to what is behind the clients: messages come until it is over.
    pub(super) is_busy: AtomicBool,
    /// Nothing more comes.
    is_calm: AtomicBool,
    /// Where a client may connect; nobody listens at port 0.
    pub(super) gateways: RwLock<Vec<SocketAddr>>,
    /// How often the source has been away so far.
    pub(super) outages: AtomicUsize,
    /// How often a client has come to a stream.
    pub(super) voyages: AtomicUsize,
    /// How many clients were there before the first message.
    pub(super) aboard: AtomicUsize,
    /// Up to which number each client has seen all its channels; in a fleet the maximum for one that is not there.
    passed: Vec<AtomicUsize>,
}

impl Sea {
    /// One gateway, or several with the same log.
    pub(super) fn new(source: Source, force: Force, gateways: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self::with(source, force, None, gateways))
    }

    /// Several gateways at one Redis.
    pub(super) fn of_fleet(force: Force, plan: FleetPlan, gateways: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self::with(Source::PubSub, force, Some(plan), gateways))
    }

    fn with(
        source: Source,
        force: Force,
        fleet: Option<FleetPlan>,
        gateways: Vec<SocketAddr>,
    ) -> Self {
        let passed = if fleet.is_some() { usize::MAX } else { 0 };
        Self {
            source,
            force,
            fleet,
            next: (0..force.channels).map(|_| AtomicUsize::new(0)).collect(),
            has_begun: AtomicBool::new(false),
            is_busy: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
            gateways: RwLock::new(gateways),
            outages: AtomicUsize::new(0),
            voyages: AtomicUsize::new(0),
            aboard: AtomicUsize::new(0),
            passed: (0..force.clients).map(|_| AtomicUsize::new(passed)).collect(),
        }
    }

    /// Publishes the next messages for `lasts`, on each channel in turn, as many a second as the force says.
    pub(super) async fn publish(&self, publisher: &impl StormPublisher, lasts: Duration) {
        const TURN: Duration = Duration::from_millis(20);
        let force = self.force;
        self.everybody_is_aboard().await;
        let start = Instant::now();
        let end = start + lasts;
        // On a busy machine it may take longer until each has come, hung up, and come back.
        let has_been_long = || {
            let voyages = self.voyages.load(Ordering::SeqCst);
            let now = Instant::now();
            let is_enough = voyages >= force.clients * 2 && !self.is_busy.load(Ordering::SeqCst);
            now >= end && (is_enough || now >= end + 8 * SOON)
        };
        let mut turn = tokio::time::interval(TURN);
        let mut sent = 0;
        while !has_been_long() {
            turn.tick().await;
            let due = start.elapsed().as_millis() * force.per_second as u128 / 1000;
            // What a busy machine has not let us send in time comes later, and not all at once.
            let due = usize::try_from(due).unwrap() - sent;
            let due = due.min(force.per_second / 10 + 1);
            let messages: Vec<_> =
                (sent..sent + due).map(|number| self.message(number % force.channels)).collect();
            sent += due;
            self.send(publisher, &messages).await;
        }
    }

    async fn everybody_is_aboard(&self) {
        if self.fleet.is_some() {
            let early = (0..self.force.clients).filter(|&client| !self.comes_late(client)).count();
            let are_there = async || self.aboard.load(Ordering::SeqCst) == early;
            eventually(4 * SOON, "all clients are ready", are_there).await;
        }
        self.has_begun.store(true, Ordering::SeqCst);
    }

    /// One message on each channel, so that everybody sees the end.
    pub(super) async fn calm(&self, publisher: &impl StormPublisher) {
        let last = |channel| match (self.message(channel), self.is_constant(channel)) {
            ((name, _), true) => (name, self.filled(format!("{channel}:end"))),
            (message, false) => message,
        };
        let messages: Vec<_> = (0..self.next.len()).map(last).collect();
        // Whoever sees the last one knows that it is the last.
        self.is_calm.store(true, Ordering::SeqCst);
        for message in messages {
            self.send(publisher, &[message]).await;
        }
    }

    /// The next message on a channel.
    fn message(&self, channel: usize) -> (String, String) {
        let number = self.next[channel].fetch_add(1, Ordering::SeqCst);
        let payload = match self.is_constant(channel) {
            true => format!("{channel}:same"),
            false => format!("{channel}:{number}"),
        };
        (format!("c{channel}"), self.filled(payload))
    }

    /// Fills a payload up.
    pub(super) fn filled(&self, mut payload: String) -> String {
        if let Some(FleetPlan { bytes, .. }) = self.fleet
            && payload.len() < bytes
        {
            payload.push(':');
            payload.extend(std::iter::repeat_n('x', bytes - payload.len()));
        }
        payload
    }

    async fn send(&self, publisher: &impl StormPublisher, messages: &[(String, String)]) {
        if messages.is_empty() {
            return;
        }
        let is_sent = publisher.send(self.source, messages).await;
        assert!(is_sent, "redis-server runs while something is published");
    }

    /// How many messages were published on a channel.
    pub(super) fn next(&self, channel: usize) -> usize {
        self.next[channel].load(Ordering::SeqCst)
    }

    /// Whether each message on a channel is like all others, but for the last: a third of the channels of a
    /// fleet.
    pub(super) fn is_constant(&self, channel: usize) -> bool {
        self.fleet.is_some() && channel % 3 == 2
    }

    /// Whether messages come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::SeqCst)
    }

    /// Whether nothing more comes.
    pub(super) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::SeqCst)
    }

    /// How often streams at this gateway may have missed something so far.
    pub(super) fn outages_at(&self, gateway: usize) -> usize {
        match self.fleet {
            Some(FleetPlan { outages_at, .. }) if outages_at != Some(gateway) => 0,
            _ => self.outages.load(Ordering::SeqCst),
        }
    }

    /// A client has seen all its channels up to this number.
    pub(super) fn has_passed(&self, client: usize, number: usize) {
        self.passed[client].store(number, Ordering::SeqCst);
    }

    /// Waits until each client has seen something of each of its channels.
    pub(super) async fn all_have_come(&self) {
        let come = async || self.passed.iter().all(|passed| passed.load(Ordering::SeqCst) > 0);
        eventually(8 * SOON, "each client has seen something", come).await;
    }

    /// Waits until each client has seen what is published by now.
    pub(super) async fn all_have_passed(&self) {
        let number = self.next(0) + 1;
        let passed =
            async || self.passed.iter().all(|passed| passed.load(Ordering::SeqCst) > number);
        eventually(8 * SOON, "each client has seen what was published", passed).await;
    }
}
