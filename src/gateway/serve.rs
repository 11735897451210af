//! Starts the threads and tasks of a gateway, and runs them until the shutdown.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ssegate_hub::{Hub, ShardLink};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config_change::{ConfigChange, ConfigChanges};
use super::config_loader::ConfigLoader;
use super::hubs::Hubs;
use super::reload::Reloader;
use super::revoking::RevocationParts;
use super::shard::{ShardParts, ShardThread};
use super::shared::SharedParts;
use super::sockets::Sockets;
use super::sources::SourceStart;
use super::state_file::StateFile;
use super::takeover::{Predecessor, run_takeovers};
use super::tasks::Tasks;
use super::{
    Error, Gateway, admin_thread, certificates, inspection, monitor, opened, probe, stop, systemd,
};
use crate::admin::{Admin, AdminAuth, AdminLog, AdminPrivacy, Reloading, Revoking, StatusSetup};
use crate::auth::{Authenticator, KeySetRunner, RevocationNotice, SharedAuth};
use crate::config::Settings;
use crate::health::Health;
use crate::log::{AccessLog, LevelControl, LogOutput};
use crate::metrics::Metrics;
use crate::route::Router;
use crate::server::descriptors::DescriptorShortage;
use crate::server::limits::GlobalLimits;
use crate::server::listener::{Acceptor, Listener, ShardHandle};
use crate::service::{
    AdminPublishing, KeptStreams, ShardQuestion, SharedStreams, StatusInspection,
};
use crate::source::SourceLocation;
use crate::source::presence::Presence;
use crate::source::publishing::Publisher;
use crate::source::recorded::RecordingEnds;

/// The capacity of the channel of accepted connections to each shard.
const MAX_HANDED_OVER: usize = 1024;

/// Serves until a signal, or until a thread or task fails.
///
/// # Errors
/// A thread or task could not be started or has failed, or not everything finished in the drain
/// time.
pub(super) async fn serve(
    gateway: Gateway,
    load: Option<ConfigLoader>,
    output: LogOutput,
) -> Result<(), Error> {
    let Gateway { configured, settings, router, metrics, sockets, predecessor } = gateway;
    let Sockets { listeners, admin, bus, shared } = sockets;
    let (sockets, listeners): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
    let source = &settings.source;
    let (publisher, publications) =
        Publisher::for_servers(source.max_event_bytes, source.servers.clone());
    let mut parts = GatewayParts::new(settings, router, listeners, (metrics, output));
    let mut signals = stop::Signals::new(parts.level.clone())?;
    let metrics = parts.metrics.for_servers(parts.settings.source.servers.names());
    let (hubs, links) = Hubs::new(&parts.settings, &parts.router, &metrics);
    let (sharing, shared_links) = SharedParts::new(&parts.settings, &parts.metrics);
    let left = StateFile::all(&configured);
    let mut predecessor = predecessor.map(Predecessor::connect).transpose()?;
    match &mut predecessor {
        Some(predecessor) => {
            let source = &parts.settings.source;
            let first = source.fleet.is_some() && parts.bus().is_none();
            let further = source.further.iter().map(|further| further.fleet.is_some());
            let has_fleet: Vec<_> = [first].into_iter().chain(further).collect();
            predecessor.begin(&hubs, &has_fleet).await;
        }
        None => left.iter().zip(hubs.all()).for_each(|(left, hub)| left.go_on(hub)),
    }
    let (changes, changed) = watch::channel(None);
    let RevocationParts { notices, control, revoking } =
        RevocationParts::new(&parts.settings, &mut parts.auth, &parts.metrics);
    let (inspection, (hub_questions, questions)) = StatusInspection::new(links.len());
    let shards = (links, shared_links, notices, questions);
    let means = (&publisher, &sharing.streams);
    let (threads, shards) = parts.start_shards(shards, means, &changed)?;
    let mut tasks = Tasks::default();
    let (routes, current_routes) = watch::channel(Arc::clone(&parts.router));
    let mut reloading = None;
    if let Some(load) = load {
        let (handle, requests) = Reloading::new();
        reloading = Some(handle);
        let reloader = parts.reloader(configured, (changes, routes), (&hubs, &sharing.hub));
        let reasons = (signal(SignalKind::hangup())?, requests);
        tasks.spawn("the reload", reloader.run(reasons, load));
    }
    tasks.spawn("the questions to the hub", inspection::answer(hub_questions, hubs.clone()));
    let start = SourceStart {
        source: parts.settings.source.clone(),
        hubs: hubs.clone(),
        publications,
        control,
        presence: parts.presence.clone(),
        kept: parts.kept.clone(),
        recording_ends: parts.recording_ends.clone(),
        health: parts.health.clone(),
        metrics,
        routes: current_routes.clone(),
    };
    start.start(&mut tasks, (bus, parts.stop_accepting.clone()))?;
    sharing.start(&mut tasks);
    parts.start_watches(&mut tasks);
    let may_accept = CancellationToken::new();
    if predecessor.is_none() {
        may_accept.cancel();
    }
    parts.start_acceptors(&mut tasks, sockets, (shards, &may_accept))?;
    let publishing = AdminPublishing::new(publisher, current_routes, &parts.metrics);
    parts.start_admin(&mut tasks, admin, (revoking, publishing, reloading, inspection))?;
    parts.log_listening();
    systemd::ready();
    let health = parts.health.clone();
    let is_taken_over = Rc::new(Cell::new(false));
    let taken_over = {
        let is_taken_over = Rc::clone(&is_taken_over);
        // It is the largest part of this future, and most of it is of the first seconds.
        let takeovers = run_takeovers(predecessor, shared, (health, hubs.clone(), may_accept));
        let taken_over = Box::pin(takeovers);
        async move {
            taken_over.await;
            is_taken_over.set(true);
        }
    };
    let handles = parts.into_stop_handles(hubs.clone());
    let stopped =
        stop::serve_until_stopped(&mut signals, &mut tasks, threads, handles, taken_over).await;
    // After a takeover the successor has the histories already.
    let is_left = matches!(stopped, Ok(()) | Err(Error::Unfinished)) && !is_taken_over.get();
    for (left, hub) in left.iter().zip(hubs.all()) {
        if is_left && hub.handover_bytes() > 0 {
            left.leave(&hub.snapshot(usize::MAX));
        }
    }
    stopped.inspect_err(|error| tracing::error!(%error, "the gateway exits"))
}

/// What each shard is started with, in addition to what all share.
type ShardNeeds = (
    Vec<Vec<ShardLink>>,
    Vec<ShardLink>,
    Vec<Option<mpsc::Receiver<RevocationNotice>>>,
    Vec<mpsc::Receiver<ShardQuestion>>,
);

/// What the admin listener can do, in addition to what it shows.
type AdminMeans = (Option<Revoking>, AdminPublishing, Option<Reloading>, StatusInspection);

/// What the threads and tasks share.
struct GatewayParts {
    settings: Settings,
    router: Arc<Router>,
    listeners: Vec<Listener>,
    health: Health,
    metrics: Metrics,
    access: AccessLog,
    level: LevelControl,
    shortage: DescriptorShortage,
    auth: SharedAuth,
    kept: KeptStreams,
    presence: Presence,
    recording_ends: RecordingEnds,
    admin_auth: AdminAuth,
    // A reload changes this, and the drain settings below.
    max_connections: Rc<Cell<usize>>,
    drain_settings: Rc<Cell<stop::DrainSettings>>,
    stop_accepting: CancellationToken,
    stop_admin: CancellationToken,
}

impl GatewayParts {
    fn new(
        mut settings: Settings,
        router: Arc<Router>,
        listeners: Vec<Listener>,
        (metrics, output): (Metrics, LogOutput),
    ) -> Self {
        // The router holds the routes.
        settings.routes = Vec::new();
        let access = AccessLog::new(&settings.log, &output, metrics.clone());
        let health = Health::default();
        Self {
            presence: Presence::new(&router, metrics.clone()),
            router,
            listeners,
            shortage: DescriptorShortage::new(health.clone(), metrics.clone()),
            health,
            kept: KeptStreams::new(metrics.clone(), &settings.source.location),
            metrics,
            access,
            level: LevelControl::new(settings.log.level, output),
            auth: SharedAuth::default(),
            admin_auth: AdminAuth::default(),
            recording_ends: RecordingEnds::new(settings.source.servers.count()),
            max_connections: Rc::new(Cell::new(settings.connections.max_connections)),
            drain_settings: Rc::new(Cell::new(stop::DrainSettings::of(&settings))),
            stop_accepting: CancellationToken::new(),
            stop_admin: CancellationToken::new(),
            settings,
        }
    }

    /// The address of the embedded bus, if that is the source.
    fn bus(&self) -> Option<SocketAddr> {
        match self.settings.source.location {
            SourceLocation::Embedded(address) => Some(address),
            SourceLocation::Redis(_) => None,
        }
    }

    /// Starts a thread for each shard. Acceptors send connections through the returned handles.
    fn start_shards(
        &self,
        (links, shared_links, revoked, questions): ShardNeeds,
        (publisher, shared): (&Publisher, &SharedStreams),
        changed: &watch::Receiver<Option<ConfigChange>>,
    ) -> Result<(Vec<ShardThread>, Rc<[ShardHandle]>), Error> {
        let limits = GlobalLimits::new(self.shortage.clone(), self.metrics.clone());
        let (mut threads, mut shards) = (Vec::new(), Vec::new());
        let links = links.into_iter().zip(shared_links);
        for ((links, shared_link), (revoked, questions)) in
            links.zip(revoked.into_iter().zip(questions))
        {
            let (sender, accepted) = mpsc::channel(MAX_HANDED_OVER);
            let load = Arc::new(AtomicUsize::new(0));
            shards.push(ShardHandle { accepted: sender, load: Arc::clone(&load) });
            threads.push(ShardThread::start(ShardParts {
                links,
                servers: self.settings.source.servers.clone(),
                has_node_orders: self.settings.source.has_node_orders(),
                shared_link,
                accepted,
                load,
                listeners: self.listeners.clone(),
                router: Arc::clone(&self.router),
                connections: self.settings.connections.clone(),
                requests: self.settings.requests.clone(),
                limits: limits.clone(),
                auth: self.auth.clone(),
                revoked,
                publisher: publisher.clone(),
                kept: self.kept.clone(),
                presence: self.presence.clone(),
                shared: shared.clone(),
                health: self.health.clone(),
                metrics: self.metrics.clone(),
                access: self.access.clone(),
                changes: changed.clone(),
                questions,
            })?);
        }
        Ok((threads, shards.into()))
    }

    fn reloader(
        &self,
        configured: Settings,
        (shards, routes): (ConfigChanges, watch::Sender<Arc<Router>>),
        (hubs, shared_hub): (&Hubs, &Hub),
    ) -> Reloader {
        Reloader {
            current: configured,
            router: Arc::clone(&self.router),
            listeners: self.listeners.clone(),
            shards,
            routes,
            hubs: hubs.clone(),
            shared_hub: shared_hub.clone(),
            max_connections: Rc::clone(&self.max_connections),
            drain_settings: Rc::clone(&self.drain_settings),
            auth: self.auth.clone(),
            admin_auth: self.admin_auth.clone(),
            level: self.level.clone(),
            access: self.access.clone(),
            presence: self.presence.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn start_watches(&self, tasks: &mut Tasks) {
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let certificates = certificates::watch(self.listeners.clone(), health, metrics);
        tasks.spawn("the certificate watcher", certificates);
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        tasks.spawn("the monitor", monitor::watch(health, self.shortage.clone(), metrics));
        tasks.spawn("the report of the access log", self.access.clone().report());
        let probe = probe::watch(self.health.clone(), self.metrics.clone());
        tasks.spawn("the backend probe", probe);
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let keys = KeySetRunner { sets: self.auth.key_sets.clone(), health, metrics };
        tasks.spawn("the key sets", keys.run());
    }

    /// Starts an acceptor for each listener. `sockets` are in the order of the listeners.
    fn start_acceptors(
        &self,
        tasks: &mut Tasks,
        sockets: Vec<std::net::TcpListener>,
        (shards, may_accept): (Rc<[ShardHandle]>, &CancellationToken),
    ) -> Result<(), Error> {
        for (listener, socket) in sockets.into_iter().enumerate() {
            let acceptor = Acceptor {
                socket: TcpListener::from_std(socket)?,
                listener,
                shards: Rc::clone(&shards),
                max_connections: Rc::clone(&self.max_connections),
                shortage: self.shortage.clone(),
                metrics: self.metrics.clone(),
            };
            let (may_accept, stop) = (may_accept.clone(), self.stop_accepting.clone());
            tasks.spawn("an acceptor", async move {
                tokio::select! {
                    () = may_accept.cancelled() => {}
                    () = stop.cancelled() => {}
                }
                acceptor.run(stop).await;
            });
        }
        Ok(())
    }

    fn start_admin(
        &self,
        tasks: &mut Tasks,
        socket: Option<std::net::TcpListener>,
        (revoking, publishing, reloading, inspection): AdminMeans,
    ) -> Result<(), Error> {
        let (Some(socket), Some(settings)) = (socket, &self.settings.admin) else {
            return Ok(());
        };
        let url = |listener: &Listener| format!("{}://{}/", listener.scheme(), listener.address);
        let own = |auth| Authenticator::new(auth, &self.auth);
        self.admin_auth.set(settings.auth.clone().map(own));
        let privacy =
            AdminPrivacy::new(settings.address.ip().is_loopback(), self.admin_auth.clone());
        let admin = Admin {
            auth: self.admin_auth.clone(),
            hosts: settings.hosts.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            urls: self.listeners.iter().map(url).collect(),
            revoking,
            publishing: Some(publishing),
            log: Some(AdminLog::new(self.level.clone(), self.access.clone())),
            reloading,
            status: StatusSetup { inspection, privacy, publishes: settings.page_publishes },
        };
        let admin = admin_thread::administer(admin, socket, self.stop_admin.clone())?;
        tasks.spawn("the admin listener", admin);
        Ok(())
    }

    fn log_listening(&self) {
        let admin = self.settings.admin.as_ref().map(|admin| admin.address);
        opened::log(&self.listeners, (admin, self.bus()), self.settings.shards);
    }

    fn into_stop_handles(self, hubs: Hubs) -> stop::StopHandles {
        let Self { health, stop_accepting, stop_admin, drain_settings, recording_ends, .. } = self;
        stop::StopHandles {
            health,
            stop_accepting,
            stop_admin,
            drain_settings,
            hubs,
            recording_ends,
        }
    }
}
