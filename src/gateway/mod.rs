//! The gateway whole: wiring and life.
//!
//! Two steps. [`Gateway::open`] opens every socket and reads every certificate, so that a mistake
//! ends the start before anything is served. [`Gateway::run`] serves until a signal, then stops in
//! good order.
//!
//! Threads: this one has the source, the hub and the acceptors; beside it runs one for each shard,
//! and one for the admin listener. Where one of them, or a task that should run as long as the
//! gateway, ends before the stop, the process ends: half a gateway would look alive.

mod certificates;
mod error;
mod inspect;
mod lookout;
mod reload;
mod shard;
mod sockets;
mod stop;
mod systemd;
mod takeover;
mod tasks;
mod thread;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::net::TcpListener;
use tokio::runtime::LocalRuntime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::error::Error;
pub use self::inspect::inspect;
pub use self::reload::Load;
use self::reload::Reloader;
use self::shard::ShardThread;
use self::sockets::{Inherited, Sockets};
use self::takeover::{Door, Predecessor};
use self::tasks::Tasks;
use self::thread::Thread;
use crate::admin::Admin;
use crate::config::Settings;
use crate::health::Health;
use crate::hub::{CloseReason, GapReason, Hub, HubSettings};
use crate::metrics::{Metrics, Reasons};
use crate::route::Router;
use crate::server::files::{self, Shortage};
use crate::server::listener::{Acceptor, Listener, ShardDoor};
use crate::server::shard_server::Bounds;
use crate::service::PassingEnd;
use crate::source::embedded::{self, Broker, BusSettings};
use crate::source::intake::Intake;
use crate::source::redis::{SourceErrorKind, StreamReader, Subscriber};
use crate::source::{SourceLocation, SourceSettings};

/// Connections that may be on their way to one shard.
const MAX_HANDED_OVER: usize = 1024;

/// The log target of what is open where: what a terminal is shown in another form.
pub const OPENED: &str = "ssegate::opened";

/// A gateway whose sockets are open, and that serves nobody yet.
#[derive(Debug)]
pub struct Gateway {
    // As the configuration says it, and with the ports that the system chose.
    written: Settings,
    settings: Settings,
    router: Arc<Router>,
    metrics: Metrics,
    sockets: Sockets,
    predecessor: Option<Predecessor>,
}

/// How a gateway begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By itself, or with the sockets that systemd has opened for it.
    Fresh,
    /// With the sockets of the gateway that runs, which then leaves.
    Takeover,
}

impl Gateway {
    /// Opens everything.
    ///
    /// # Errors
    /// A port is taken, a certificate cannot be used, there is nobody to take over from; each says
    /// what to do.
    pub fn open(mut settings: Settings, start: Start) -> Result<Self, Error> {
        files::raise_limit();
        files::enough(settings.shards, sockets::addresses(&settings).len())
            .map_err(Error::Files)?;
        // The routes are the router's.
        let written = Settings { routes: Vec::new(), ..settings.clone() };
        let metrics = Metrics::new()?;
        announce(&metrics);
        let router = Arc::new(Router::new(&settings.routes, None)?);
        let (mut inherited, predecessor) = match start {
            Start::Fresh => (Inherited::from_systemd()?, None),
            Start::Takeover => {
                let first = settings.listeners.first().map(|listener| listener.address);
                let first = first.expect("the configuration wants one listener at least");
                let (inherited, predecessor) = takeover::ask(first)?;
                (inherited, Some(predecessor))
            }
        };
        let sockets = Sockets::open(&mut settings, &mut inherited)?;
        let left = inherited.left();
        if start == Start::Fresh && !left.is_empty() {
            return Err(Error::Unused(left));
        }
        Ok(Self { written, settings, router, metrics, sockets, predecessor })
    }

    /// What it was opened with; where port 0 was asked for, the port that the system chose.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it records, for what lies outside of it.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Serves until SIGTERM or SIGINT, then stops in good order. Blocks. On SIGHUP the settings are
    /// loaded again, where it is known how.
    ///
    /// # Errors
    /// Something that had to run has ended, or the stop was not in good order.
    pub fn run(self, load: Option<Load>) -> Result<(), Error> {
        LocalRuntime::new()?.block_on(self.serve(load))
    }

    async fn serve(self, load: Option<Load>) -> Result<(), Error> {
        let mut signals = stop::Signals::new()?;
        let Self { written, mut settings, router, metrics, sockets, predecessor } = self;
        settings.routes = Vec::new();
        let Sockets { listeners, admin, bus, shared } = sockets;
        let manner = Rc::new(Cell::new(stop::Manner::of(&settings)));
        let max_connections = Rc::new(Cell::new(settings.connections.max_connections));
        let (changes, changed) = watch::channel(None);
        let health = Health::default();
        let shortage = Shortage::new(health.clone(), metrics.clone());
        let bounds = Bounds::new(shortage.clone(), metrics.clone());
        let accepting = CancellationToken::new();
        let administering = CancellationToken::new();
        let kept = HubSettings { retention: Arc::new(router.retention()), ..settings.hub.clone() };
        let (hub, links) = Hub::new(kept, settings.shards, metrics.clone());

        let bus_address = match settings.source.location {
            SourceLocation::Embedded(address) => Some(address),
            SourceLocation::Redis(_) => None,
        };
        let shown: Vec<Listener> = listeners.iter().map(|(_, listener)| listener.clone()).collect();
        let mut threads = Vec::new();
        let mut doors = Vec::new();
        for link in links {
            let (sender, accepted) = mpsc::channel(MAX_HANDED_OVER);
            let load = Arc::new(AtomicUsize::new(0));
            doors.push(ShardDoor { accepted: sender, load: Arc::clone(&load) });
            threads.push(ShardThread::start(shard::Parts {
                link,
                accepted,
                load,
                listeners: shown.clone(),
                router: Arc::clone(&router),
                connections: settings.connections.clone(),
                requests: settings.requests.clone(),
                bounds: bounds.clone(),
                bus: bus_address,
                health: health.clone(),
                metrics: metrics.clone(),
                changes: changed.clone(),
            })?);
        }

        let mut tasks = Tasks::default();
        if let Some(load) = load {
            let reloader = Reloader {
                current: written,
                router: Arc::clone(&router),
                listeners: shown.clone(),
                shards: changes,
                hub: hub.clone(),
                max_connections: Rc::clone(&max_connections),
                manner: Rc::clone(&manner),
                health: health.clone(),
                metrics: metrics.clone(),
            };
            let hang_up = signal(SignalKind::hangup())?;
            tasks.own("the reload", reloader.run(hang_up, load));
        }
        let deal = hub.clone();
        tasks.own("the hub", async move { deal.run().await });
        read_logs(&mut tasks, &settings.source, &hub, &health, &metrics);
        listen(&mut tasks, &settings.source, bus, hub, &health, &metrics, &accepting)?;
        let certificates = certificates::watch(shown.clone(), health.clone(), metrics.clone());
        tasks.own("the watch of certificates", certificates);
        let watch = lookout::watch(health.clone(), shortage.clone(), metrics.clone());
        tasks.own("the watch", watch);
        let doors: Rc<[ShardDoor]> = doors.into();
        for (place, (socket, _)) in listeners.into_iter().enumerate() {
            let acceptor = Acceptor {
                socket: TcpListener::from_std(socket)?,
                listener: place,
                doors: Rc::clone(&doors),
                max_connections: Rc::clone(&max_connections),
                shortage: shortage.clone(),
                metrics: metrics.clone(),
            };
            tasks.own("an acceptor", acceptor.run(accepting.clone()));
        }
        drop(doors);
        if let (Some(socket), Some(admin)) = (admin, &settings.admin) {
            let admin = Admin {
                hosts: admin.hosts.clone(),
                health: health.clone(),
                metrics: metrics.clone(),
                urls: shown.iter().map(|l| format!("{}://{}/", l.scheme(), l.address)).collect(),
            };
            let stop = administering.clone();
            tasks.own("the admin listener", administer(admin, socket, stop)?);
        }
        for listener in &shown {
            let (kind, address) = (listener.scheme(), listener.address);
            tracing::info!(target: OPENED, kind, %address, "listening");
        }
        let admin_address = settings.admin.as_ref().map(|admin| admin.address);
        for (kind, address) in [("admin", admin_address), ("bus", bus_address)] {
            if let Some(address) = address {
                tracing::info!(target: OPENED, kind, %address, "listening");
            }
        }
        let (version, shards) = (env!("CARGO_PKG_VERSION"), settings.shards);
        tracing::info!(target: OPENED, version, shards, "started");

        systemd::ready();
        let relieved = succession(predecessor, shared, health.clone());
        let switches = stop::Switches { health, accepting, administering, manner };
        stop::serve_until_stopped(&mut signals, &mut tasks, threads, switches, relieved)
            .await
            .inspect_err(|error| tracing::error!(%error, "the gateway ends"))
    }
}

/// Starts the admin listener on a thread of its own: to write down all metrics takes its time, and
/// the thread of the source has none to spare. It ends with the future that is answered.
fn administer(
    admin: Admin,
    socket: std::net::TcpListener,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()>> {
    let stopping = stop.clone().drop_guard();
    let mut thread = Thread::start("admin", async move || {
        let socket = TcpListener::from_std(socket).map_err(|error| error.to_string())?;
        admin.serve(socket, stop).await;
        Ok(())
    })?;
    Ok(async move {
        let ended = thread.ended().await;
        drop(stopping);
        if let Err(error) = ended {
            tracing::error!(%error, "the admin listener has failed");
        }
    })
}

/// Takes over from a predecessor, if there is one; then waits for a successor.
async fn succession(
    predecessor: Option<Predecessor>,
    sockets: Vec<(SocketAddr, std::net::TcpListener)>,
    health: Health,
) {
    if let Some(predecessor) = predecessor {
        predecessor.relieve(&health).await;
    }
    match Door::open(sockets) {
        Ok(door) => door.relieved().await,
        Err(error) => {
            tracing::info!(%error, "no other gateway can take over from this one");
            std::future::pending().await
        }
    }
}

/// Starts what the events come from.
fn listen(
    tasks: &mut Tasks,
    settings: &SourceSettings,
    bus: Option<std::net::TcpListener>,
    hub: Hub,
    health: &Health,
    metrics: &Metrics,
    accepting: &CancellationToken,
) -> Result<(), Error> {
    let max_event_bytes = settings.max_event_bytes;
    match (&settings.location, bus) {
        (SourceLocation::Embedded(_), Some(socket)) => {
            let max_memory = settings.max_bus_memory;
            let bounds = BusSettings { max_event_bytes, max_memory, ..BusSettings::default() };
            let broker = Broker::new(bounds);
            tasks.own("the watch of the bus", lookout::watch_bus(broker.stats(), metrics.clone()));
            let intake = Intake::new(hub.clone(), metrics.clone());
            let socket = TcpListener::from_std(socket)?;
            tasks.own("the bus", embedded::serve(socket, broker.clone(), accepting.clone()));
            tasks.own("the source", embedded::listen(broker, hub, intake));
            health.set_source_ready(true);
            metrics.source_connected(true);
        }
        (SourceLocation::Redis(info), _) => {
            let (health, metrics) = (health.clone(), metrics.clone());
            let source = Subscriber::new(info.clone(), max_event_bytes, hub, health, metrics);
            tasks.own("the source", source.run());
        }
        (SourceLocation::Embedded(_), None) => unreachable!("its socket was opened"),
    }
    Ok(())
}

/// Starts what reads logs; the bus inside this process has none.
fn read_logs(
    tasks: &mut Tasks,
    settings: &SourceSettings,
    hub: &Hub,
    health: &Health,
    metrics: &Metrics,
) {
    if let SourceLocation::Redis(info) = &settings.location {
        let (hub, health, metrics) = (hub.clone(), health.clone(), metrics.clone());
        let reader =
            StreamReader::new(info.clone(), settings.max_event_bytes, hub, health, metrics);
        tasks.own("the reader of streams", reader.run());
    }
}

fn announce(metrics: &Metrics) {
    let ends = PassingEnd::ALL.map(PassingEnd::as_str);
    metrics.announce_reasons(Reasons {
        gaps: &GapReason::ALL.map(GapReason::as_str),
        streams_closed: &[&CloseReason::ALL.map(CloseReason::as_str)[..], &ends].concat(),
        source_errors: &SourceErrorKind::ALL.map(SourceErrorKind::as_str),
    });
}
