//! Three gateways at one Redis, and what befalls them in a storm.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::log::name;
use super::sailor::Landed;
use super::sea::{FleetPlan, Force, Sea};
use crate::support::{Gateway, GatewayBuilder, Redis, Relay, SOON, eventually};

/// A channel that only the first gateway follows.
const FLOOD: &str = "flood";

/// What befalls the gateways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) force: Force,
    /// The length of each payload.
    pub(super) bytes: usize,
    /// How often a gateway is drained and started anew, each in turn.
    pub(super) restarts: usize,
    /// Each gateway follows the pattern of all channels, too.
    pub(super) follows: bool,
    /// How late the first gateway hears, at most.
    pub(super) late: Duration,
    /// How many seconds the clock of each gateway is ahead.
    pub(super) clocks: [i32; 3],
    /// How often the connection of the first gateway breaks.
    pub(super) breaks: usize,
}

impl Weather {
    /// Nothing befalls them.
    pub(super) const fn fair(force: Force) -> Self {
        Self {
            force,
            bytes: 0,
            restarts: 0,
            follows: false,
            late: Duration::ZERO,
            clocks: [0; 3],
            breaks: 0,
        }
    }

    fn plan(&self) -> FleetPlan {
        FleetPlan {
            bytes: self.bytes,
            longest_voyage: Duration::from_millis(1500) + 2 * self.late,
            stayers: if self.breaks > 0 { 3 } else { 0 },
            outages_at: (self.breaks > 0).then_some(0),
        }
    }
}

/// Three gateways, of which the first has a path of its own to Redis.
pub(super) struct Fleet<'a> {
    redis: &'a Redis,
    path: Arc<Relay>,
    weather: Weather,
    gateways: Vec<Gateway>,
}

impl<'a> Fleet<'a> {
    pub(super) async fn start(redis: &'a Redis, weather: Weather) -> Self {
        let user = ["ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all"];
        redis.command::<String>(&user).await;
        let path = Arc::new(Relay::to(([127, 0, 0, 1], redis.port()).into()).await);
        let mut fleet = Self { redis, path, weather, gateways: Vec::new() };
        for at in 0..3 {
            let gateway = fleet.started(at).await;
            fleet.gateways.push(gateway);
        }
        let follow_all = async || fleet.follow_all().await;
        eventually(SOON, "all gateways follow all channels", follow_all).await;
        fleet
    }

    /// Opens all channels at each gateway, since what only another gateway has heard is a gap. Returns whether all
    /// have heard a mark that came after that: then the place before the first message has the same name at each.
    async fn follow_all(&self) -> bool {
        let channels = 0..self.weather.force.channels;
        let names: Vec<_> = channels.map(|channel| format!("channel=c{channel}")).collect();
        let mut places = Vec::new();
        for gateway in &self.gateways {
            let stream = gateway.subscribe(&format!("/events?{}", names.join("&"))).await;
            places.push(name(stream.last_id()).map(str::to_owned));
        }
        places.iter().all(|place| place.is_some() && *place == places[0])
    }

    async fn started(&self, at: usize) -> Gateway {
        let gateway = self.build(at).start().await;
        gateway.becomes(200, SOON).await;
        gateway
    }

    /// What is published in a storm is less than what each history may have, and what waits for a client: nobody
    /// is told that something has been forgotten, or is sent away, on a busy machine.
    fn build(&self, at: usize) -> GatewayBuilder {
        let builder = Gateway::build(self.redis).settings(
            "sse: { history: { count: 20000, bytes: 128MiB }, queue: { bytes: 64MiB } }\n\
             history_memory: 2GiB\n\
             drain: 1s",
        );
        let builder = match at {
            0 => builder.redis_url(&format!("redis://gate:secret@{}", self.path.address())),
            _ => builder,
        };
        let builder = match self.weather.follows {
            true => builder.routes(
                "- path: /events\n  events: { channels: [\"{query.channel}\"], follow: [\"c*\"] }\n",
            ),
            false => builder,
        };
        match self.weather.clocks[at] {
            0 => builder,
            seconds => builder.with_clock_ahead(seconds),
        }
    }

    /// Where the clients of the storm sail.
    pub(super) fn sea(&self) -> Arc<Sea> {
        let addresses = self.gateways.iter().map(|gateway| gateway.address("http")).collect();
        Sea::of_fleet(self.weather.force, self.weather.plan(), addresses)
    }

    /// All that the weather has.
    pub(super) async fn endure(&mut self, sea: &Sea) {
        eventually(4 * SOON, "messages", async || sea.has_begun()).await;
        let weather = self.weather;
        let late = be_late(Arc::clone(&self.path), weather);
        let restarts = async {
            for number in 0..weather.restarts {
                // One that starts and hears late would not be told in time what the others follow.
                let (at, turn) = if weather.late.is_zero() {
                    (number % 3, number)
                } else {
                    (1 + number % 2, number / 2)
                };
                self.restart(sea, at, turn.is_multiple_of(2)).await;
            }
        };
        tokio::join!(late, restarts);
        for number in 1..=self.weather.breaks {
            self.break_connection(sea, number).await;
        }
    }

    /// Drains a gateway and starts another in its place, before that or afterwards.
    async fn restart(&mut self, sea: &Sea, at: usize, is_new_first: bool) {
        if is_new_first {
            let new = self.started(at).await;
            // What was published before it followed the channels is known to others only.
            sea.all_have_passed().await;
            sea.gateways.write().unwrap()[at] = new.address("http");
            self.drain(at).await;
            self.gateways[at] = new;
        } else {
            sea.gateways.write().unwrap()[at].set_port(0);
            self.drain(at).await;
            self.gateways[at] = self.started(at).await;
            sea.all_have_passed().await;
            sea.gateways.write().unwrap()[at] = self.gateways[at].address("http");
        }
    }

    async fn drain(&mut self, at: usize) {
        self.gateways[at].signal(Signal::TERM);
        assert_eq!(self.gateways[at].exit_within(2 * SOON).await.code(), Some(0));
    }

    async fn break_connection(&self, sea: &Sea, number: usize) {
        sea.all_have_passed().await;
        sea.outages.fetch_add(1, Ordering::SeqCst);
        if number.is_multiple_of(2) {
            let kill = ["CLIENT", "KILL", "USER", "gate", "TYPE", "pubsub"];
            assert_eq!(self.redis.command::<u64>(&kill).await, 1);
        } else {
            self.overflow().await;
        }
        let first = &self.gateways[0];
        first.counts("ssegate_redis_reconnects_total", &[], number as f64).await;
        first.becomes(200, SOON).await;
        sea.all_have_passed().await;
    }

    /// Redis sends more than the first gateway takes, and cuts it off.
    async fn overflow(&self) {
        drop(self.gateways[0].subscribe(&format!("/events?channel={FLOOD}")).await);
        self.path.hold(true);
        self.redis.overflow(FLOOD).await;
        self.path.hold(false);
    }

    /// Nobody was told a gap but at the first gateway, once for each break.
    pub(super) async fn judge(&self, sea: &Sea, landed: &[Landed]) {
        for client in landed {
            if let Some(gateway) = sea.stays_at(client.client) {
                let due = if gateway == 0 { self.weather.breaks } else { 0 };
                assert_eq!(client.gaps, due, "client {} at {gateway}", client.client);
            }
        }
        for (at, gateway) in self.gateways.iter().enumerate() {
            let metrics = gateway.metrics().await;
            let gaps = metrics.sum("ssegate_gaps_total", &[]);
            assert!(gaps == 0.0 || self.weather.breaks > 0 && at == 0, "{gaps} gaps at {at}");
            let moved = metrics.sum("ssegate_fleet_clients_total", &["result=\"complete\""]);
            assert!(moved > 0.0, "nobody came to {at} from another gateway");
        }
    }
}

/// The first gateway hears late: now by this, then by that. What comes behind something that is later waits for it,
/// so that much comes at once when it is over.
async fn be_late(path: Arc<Relay>, Weather { late, force, .. }: Weather) {
    let calm_after = Instant::now() + force.lasts;
    while !late.is_zero() && Instant::now() < calm_after {
        for delay in [late, late.mul_f64(fastrand::f64()), Duration::ZERO] {
            path.delay(delay);
            tokio::time::sleep(if delay == late { late } else { late.mul_f64(fastrand::f64()) })
                .await;
        }
    }
    path.delay(Duration::ZERO);
}
