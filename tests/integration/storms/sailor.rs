//! A client of a storm: it connects somewhere, hangs up, and comes back with its last id.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::log::Log;
use super::sea::{Sea, Source};
use crate::support::{EventStream, Request, SOON, Via};

/// What a client has to tell in the end.
pub(super) struct Landed {
    pub(super) client: usize,
    /// Events that it saw.
    pub(super) seen: usize,
    /// How often it came to a stream.
    pub(super) voyages: usize,
    /// Gaps that it was told.
    pub(super) gaps: usize,
    /// How many of them each of its channels has.
    pub(super) gaps_of_channels: Vec<usize>,
    /// What is missing behind them: the channel, and its numbers.
    pub(super) missing: Vec<(usize, Range<usize>)>,
}

impl Sea {
    /// Whether a client comes when messages come already; it has no channel where all are alike, since these do
    /// not say where they began.
    pub(super) fn comes_late(&self, client: usize) -> bool {
        self.fleet.is_some() && client % 8 == 7
    }

    /// At which gateway a client stays, if it does.
    pub(super) fn stays_at(&self, client: usize) -> Option<usize> {
        let plan = self.fleet?;
        let gateways = self.gateways.read().unwrap().len();
        let stays = client / 8 < plan.stayers && client % 8 < gateways;
        stays.then_some(client % 8)
    }

    /// One to three channels.
    fn channels_of(&self, client: usize) -> Vec<usize> {
        let count = self.force.channels;
        let mut channels: Vec<usize> = [client, client + 1, client + 7][..=client % 3].to_vec();
        for channel in &mut channels {
            *channel %= count;
            if self.comes_late(client) && self.is_constant(*channel) {
                *channel -= 1;
            }
        }
        channels
    }

    /// A client, to its end.
    pub(super) async fn sail(self: Arc<Self>, client: usize) -> Landed {
        let is_late = self.comes_late(client);
        if is_late {
            self.wait_at_land().await;
        }
        let mut log = Log::new(&self.channels_of(client), self.fleet.is_some() && !is_late);
        let mut voyages = 0;
        while !log.is_complete(&self) {
            let via = if client.is_multiple_of(2) { Via::Http1 } else { Via::H2c };
            let Some((gateway, stream)) = self.board(client, via, &log).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            voyages += 1;
            self.voyages.fetch_add(1, Ordering::SeqCst);
            self.voyage(client, gateway, stream, &mut log).await;
            log.leave();
        }
        self.has_passed(client, usize::MAX);
        let is_once = log.gaps <= self.outages.load(Ordering::SeqCst);
        // Of recorded channels each has a gap of its own.
        assert!(is_once || self.source == Source::Recorded, "one gap for each outage at most");
        let gaps_of_channels = log.gaps_of_channels();
        Landed {
            client,
            seen: log.seen,
            voyages,
            gaps: log.gaps,
            gaps_of_channels,
            missing: log.missing,
        }
    }

    async fn wait_at_land(&self) {
        while !self.has_begun() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(self.force.lasts.mul_f64(fastrand::f64() / 2.0)).await;
    }

    /// Reads until it hangs up, or is cut off, or has everything.
    async fn voyage(&self, client: usize, gateway: usize, mut stream: EventStream, log: &mut Log) {
        let ends = Instant::now() + self.length_of_voyage(client);
        loop {
            let must_stay = self.must_stay(log);
            let end = if self.is_calm() || must_stay { ends + 2 * SOON } else { ends };
            match tokio::time::timeout_at(end, stream.block()).await {
                Ok(Some(block)) => {
                    if block.comments.iter().any(|comment| comment == "ready") {
                        log.ready(self);
                    }
                    if let Some(event) = block.event {
                        log.enter(self, &event, self.outages_at(gateway));
                    }
                    // A client keeps its id until it is told another one.
                    if !stream.last_id().is_empty() {
                        log.stand_at(stream.last_id());
                    }
                }
                // It was cut off.
                Ok(None) => break,
                // It hangs up.
                Err(_) => {
                    let is_over =
                        (self.is_calm() || must_stay) && Instant::now() >= ends + 2 * SOON;
                    assert!(!is_over, "client {client} at {gateway} waits for {}", log.waits_for());
                    break;
                }
            }
            self.has_passed(client, log.passed());
            if must_stay && !self.must_stay(log) && !self.has_begun() {
                self.aboard.fetch_add(1, Ordering::SeqCst);
            }
            if log.is_complete(self) {
                break;
            }
        }
    }

    /// In a fleet, whoever leaves with an id that others cannot know yet would be told a gap there.
    fn must_stay(&self, log: &Log) -> bool {
        self.fleet.is_some() && !(log.was_ready() && log.can_move())
    }

    fn length_of_voyage(&self, client: usize) -> Duration {
        if self.stays_at(client).is_some() {
            return 10 * SOON;
        }
        let longest = match self.fleet {
            Some(plan) if fastrand::usize(..4) == 0 => plan.longest_voyage,
            _ => Duration::from_millis(1500),
        };
        Duration::from_millis(20) + longest.mul_f64(fastrand::f64())
    }

    /// Connects somewhere, and says where; `None` where nobody answers just now.
    async fn board(&self, client: usize, via: Via, log: &Log) -> Option<(usize, EventStream)> {
        let (gateway, address) = {
            let gateways = self.gateways.read().unwrap();
            let gateway =
                self.stays_at(client).unwrap_or_else(|| fastrand::usize(..gateways.len()));
            (gateway, gateways[gateway])
        };
        let mut request = Request::events(&log.target());
        if let Some(id) = &log.last_id {
            request = request.header("last-event-id", id);
        }
        drop(tokio::net::TcpStream::connect(address).await.ok()?);
        // A gateway that is killed meanwhile is a failure of a task, not of this test.
        let response = tokio::spawn(async move { request.send(via, address).await });
        let response = tokio::time::timeout(SOON, response).await.ok()?.ok()?;
        (response.status == 200).then(|| (gateway, EventStream::new(response)))
    }
}
