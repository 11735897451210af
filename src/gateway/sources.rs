//! Starts the hubs, and the source of each: one for each server.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::bus::BusParts;
use super::hubs::Hubs;
use super::redis::RedisParts;
use super::revoking::ControlParts;
use super::source_parts::SourceParts;
use super::tasks::Tasks;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::route::{Router, ServerPlace};
use crate::service::KeptStreams;
use crate::source::SourceSettings;
use crate::source::presence::Presence;
use crate::source::publishing::PublicationJob;
use crate::source::recorded::RecordingEnds;
use crate::source::redis::RedisServer;

/// What the sources are started with.
pub(super) struct SourceStart {
    pub(super) source: SourceSettings,
    pub(super) hubs: Hubs,
    /// The publications for each server.
    pub(super) publications: Vec<mpsc::Receiver<PublicationJob>>,
    /// The control channel, which is at the first server.
    pub(super) control: Option<ControlParts>,
    /// Presence, which is kept at the first server.
    pub(super) presence: Presence,
    /// Kept streams that all gateways share, at the first server.
    pub(super) kept: KeptStreams,
    /// Those of each server.
    pub(super) recording_ends: RecordingEnds,
    pub(super) health: Health,
    /// Those of each server.
    pub(super) metrics: Vec<Metrics>,
    pub(super) routes: watch::Receiver<Arc<Router>>,
}

impl SourceStart {
    /// Starts the tasks. `bus` is the socket of the embedded bus, and ends its connections.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(super) fn start(
        self,
        tasks: &mut Tasks,
        (bus, stop): (Option<TcpListener>, CancellationToken),
    ) -> Result<(), Error> {
        let Self { source, hubs, publications, control, presence, health, metrics, .. } = self;
        let Self { kept, recording_ends, routes, .. } = self;
        hubs.start(tasks);
        let servers = source.servers.clone();
        let healths = health.for_servers(servers.names());
        let mut redis: Vec<Option<RedisServer>> = healths.iter().map(|_| None).collect();
        for (index, server) in source.redis_servers() {
            redis[index] = Some(server);
        }
        let fleets = [(source.fleet.clone(), source.node_fleet.clone())]
            .into_iter()
            .chain(source.further.iter().map(|one| (one.fleet.clone(), one.node_fleet.clone())));
        let mut first = Some((control, presence));
        let seen = healths.into_iter().zip(metrics);
        let recorded = recording_ends.all().iter().cloned();
        let ends = hubs.all().iter().cloned().zip(publications.into_iter().zip(recorded));
        let mut bus = bus;
        for (
            index,
            (
                ((health, metrics), (hub, (publications, recording_ends))),
                (server, (fleet, node_fleet)),
            ),
        ) in seen.zip(ends).zip(redis.into_iter().zip(fleets)).enumerate()
        {
            let (control, presence) = first.take().unzip();
            let control = control.flatten();
            let source = source.clone();
            let parts = SourceParts {
                source,
                fleet,
                node_fleet,
                publications,
                hub,
                control,
                presence,
                recording_ends,
                kept: kept.clone(),
                health,
                metrics,
            };
            match (server, bus.take()) {
                (Some(server), _) => {
                    let place = ServerPlace { servers: servers.clone(), index };
                    RedisParts { server, place, parts, routes: routes.clone() }.start(tasks);
                }
                (None, Some(socket)) => {
                    BusParts { socket, parts, stop: stop.clone() }.start(tasks)?;
                }
                (None, None) => unreachable!("the bus has a socket"),
            }
        }
        Ok(())
    }
}
