//! The hubs: one for each server, since each server has its own order of messages, and its own outages.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ssegate_hub::{Hub, HubSettings, ShardLink};

use super::tasks::Tasks;
use crate::config::Settings;
use crate::hex::hex;
use crate::metrics::Metrics;
use crate::route::{Router, ServerList, ServerPlace};
use crate::service::HubView;
use crate::source::SourceLocation;

/// The hub of each server. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Hubs {
    // The first one is that of `redis.url`; there is always one.
    hubs: Vec<Hub>,
    servers: ServerList,
    // Of each, a digest of its URL without user and password.
    places: Arc<[String]>,
}

/// A server, and its hub.
#[derive(Debug)]
pub(super) struct HubServer<'a> {
    /// Its place among the servers.
    pub(super) index: usize,
    /// What it is called.
    pub(super) name: &'a str,
    /// A digest of its URL without user and password, by which another gateway knows whether it has the same one.
    pub(super) place: &'a str,
    /// The key of gateway.yaml that has its URL.
    pub(super) key: String,
    pub(super) hub: &'a Hub,
}

/// Bytes of a digest that are used.
const DIGEST_BYTES: usize = 16;

impl Hubs {
    /// The hubs, and the links of each shard, one to each hub. `metrics` has those of each server.
    pub(super) fn new(
        settings: &Settings,
        router: &Router,
        metrics: &[Metrics],
    ) -> (Self, Vec<Vec<ShardLink>>) {
        let servers = settings.source.servers.clone();
        let mut links: Vec<Vec<ShardLink>> = (0..settings.shards).map(|_| Vec::new()).collect();
        let hubs = metrics.iter().enumerate().map(|(index, metrics)| {
            let place = ServerPlace { servers: servers.clone(), index };
            let settings_here = settings_at(&settings.hub, router, &place);
            let (hub, own) = Hub::new(settings_here, settings.shards, metrics.clone());
            links.iter_mut().zip(own).for_each(|(links, link)| links.push(link));
            hub
        });
        let hubs = hubs.collect();
        let source = &settings.source;
        let further = source.further.iter().map(|one| SourceLocation::Redis(one.location.clone()));
        let all = std::iter::once(source.location.clone()).chain(further);
        let places = all.map(|location| place_of(&location)).collect();
        (Self { hubs, servers, places }, links)
    }

    /// The hub of the first server.
    pub(super) fn first(&self) -> &Hub {
        &self.hubs[0]
    }

    /// The hubs of the servers behind the first, each with the name of its server.
    pub(super) fn further(&self) -> impl Iterator<Item = (&str, &Hub)> {
        self.servers.names().iter().map(|name| &**name).zip(&self.hubs).skip(1)
    }

    /// All servers, in order.
    pub(super) fn servers(&self) -> impl Iterator<Item = HubServer<'_>> {
        let named = self.servers.names().iter().zip(self.places.iter()).zip(&self.hubs);
        named.enumerate().map(|(index, ((name, place), hub))| HubServer {
            index,
            name,
            place,
            key: self.servers.key(index),
            hub,
        })
    }

    /// The hub of each server, in order.
    pub(super) fn all(&self) -> &[Hub] {
        &self.hubs
    }

    /// Starts them.
    pub(super) fn start(&self, tasks: &mut Tasks) {
        for hub in self.hubs.clone() {
            tasks.spawn("the hub", async move { hub.run().await });
        }
    }

    /// Applies the settings and the routes of a reload.
    pub(super) fn change(&self, settings: &HubSettings, router: &Router) {
        for (index, hub) in self.hubs.iter().enumerate() {
            let place = ServerPlace { servers: self.servers.clone(), index };
            hub.change(settings_at(settings, router, &place));
        }
    }

    /// Leaves the fleet, at the beginning of the drain.
    pub(super) fn leave_fleet(&self) {
        self.hubs.iter().for_each(Hub::leave_fleet);
    }

    /// Waits until no other gateway needs this one any more, at any server.
    pub(super) async fn farewell(&self) {
        for hub in &self.hubs {
            hub.farewell().await;
        }
    }

    /// What the status page shows: the busiest channels of all servers, and the bounds of all of them together.
    pub(super) async fn view(&self, max: usize) -> HubView {
        let mut view = HubView::default();
        for hub in &self.hubs {
            let settings = hub.settings();
            view.busiest.extend(hub.busiest(max).await);
            view.max_queue_bytes += settings.queue_memory;
            view.max_history_bytes += settings.history_memory;
            view.max_channels += settings.max_channels;
        }
        view.busiest.sort_by_key(|busy| std::cmp::Reverse(busy.messages));
        view.busiest.truncate(max);
        view
    }
}

/// A digest of where a server is. Databases make no difference to pub/sub.
fn place_of(location: &SourceLocation) -> String {
    // Without user and password.
    let shown = format!("{location:?}");
    hex(&digest(&SHA256, shown.as_bytes()).as_ref()[..DIGEST_BYTES])
}

/// The settings of the hub of one server. The bounds of memory are shared evenly.
fn settings_at(settings: &HubSettings, router: &Router, place: &ServerPlace) -> HubSettings {
    let servers = place.servers.count();
    HubSettings {
        history_memory: settings.history_memory / servers,
        handover_bytes: settings.handover_bytes / servers,
        queue_memory: settings.queue_memory / servers,
        retention: Arc::new(router.retention(place)),
        followed: router.followed(place).into(),
        ..settings.clone()
    }
}
