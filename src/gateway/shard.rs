//! The thread of one shard: an event loop with its own connections and subscribers.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ssegate_hub::{Shard, ShardLink};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Error;
use super::config_change::ConfigChange;
use super::tasks::Tasks;
use super::thread::Thread;
use crate::auth::{RevocationNotice, SharedAuth};
use crate::health::Health;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use crate::route::{Router, ServerList};
use crate::server::ConnectionSettings;
use crate::server::limits::GlobalLimits;
use crate::server::listener::{Accepted, Listener};
use crate::server::shard_server::ShardServer;
use crate::service::{
    KeptStreams, RequestSettings, Service, ShardQuestion, SharedStreams, StreamShards,
};
use crate::source::presence::Presence;
use crate::source::publishing::Publisher;

/// What a shard's thread is started with.
#[derive(Debug)]
pub(super) struct ShardParts {
    /// A link to the hub of each server.
    pub(super) links: Vec<ShardLink>,
    pub(super) servers: ServerList,
    /// For each server, whether gateways know each other's ids of its sharded channels.
    pub(super) has_node_orders: Vec<bool>,
    pub(super) shared_link: ShardLink,
    pub(super) accepted: mpsc::Receiver<Accepted>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) listeners: Vec<Listener>,
    pub(super) router: Arc<Router>,
    pub(super) connections: ConnectionSettings,
    pub(super) requests: RequestSettings,
    pub(super) limits: GlobalLimits,
    pub(super) auth: SharedAuth,
    /// The revocations; `None` where nothing can be revoked.
    pub(super) revoked: Option<mpsc::Receiver<RevocationNotice>>,
    pub(super) publisher: Publisher,
    pub(super) kept: KeptStreams,
    pub(super) presence: Presence,
    pub(super) shared: SharedStreams,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) access: AccessLog,
    pub(super) changes: watch::Receiver<Option<ConfigChange>>,
    /// The questions of the status page.
    pub(super) questions: mpsc::Receiver<ShardQuestion>,
}

/// The phase of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopPhase {
    Serving,
    /// Streams end, spread over this time, and running requests finish.
    Draining(Duration),
    /// Remaining connections are closed.
    Cut,
}

/// A handle to a shard's thread.
#[derive(Debug)]
pub(super) struct ShardThread {
    phase: watch::Sender<StopPhase>,
    thread: Thread,
}

impl ShardThread {
    pub(super) fn start(parts: ShardParts) -> io::Result<Self> {
        let (phase, phases) = watch::channel(StopPhase::Serving);
        let thread = Thread::start("shard", move || serve(parts, phases))?;
        Ok(Self { phase, thread })
    }

    /// Ends the streams, spread evenly over `over`, and lets running requests finish.
    pub(super) fn drain(&self, over: Duration) {
        self.phase.send_replace(StopPhase::Draining(over));
    }

    /// Closes the remaining connections.
    pub(super) fn cut(&self) {
        self.phase.send_replace(StopPhase::Cut);
    }

    /// Waits until the thread has ended. Cancel safe.
    ///
    /// # Errors
    /// The thread failed or panicked.
    pub(super) async fn ended(&mut self) -> Result<(), Error> {
        self.thread.ended().await
    }
}

/// Runs until the shutdown is complete. All work is in spawned tasks: tokio polls the future of
/// `block_on` only after every `event_interval` (61) task polls.
async fn serve(parts: ShardParts, mut phases: watch::Receiver<StopPhase>) -> Result<(), String> {
    let ShardParts { links, servers, shared_link, accepted, load, listeners, router, .. } = parts;
    let ShardParts { has_node_orders, .. } = parts;
    let ShardParts {
        connections,
        publisher,
        kept,
        presence,
        shared,
        health,
        metrics,
        changes,
        requests,
        limits,
        auth,
        revoked,
        questions,
        ..
    } = parts;
    let observed = (metrics.clone(), parts.access);
    let timeout = connections.write_timeout;
    let shard = |link| Shard::new(link, timeout, metrics.for_shard());
    let shards: Vec<Shard> = links.into_iter().map(shard).collect();
    // The streams of backends that readers share have a hub of their own.
    let sharing = shard(shared_link);
    let requests = (requests, limits.clients.clone(), auth);
    let memory = limits.upload_memory.clone();
    let service = Service::new(
        router,
        requests,
        (StreamShards::new(&shards, servers).with_node_orders(&has_node_orders), sharing.clone()),
        (publisher, kept, shared, presence),
        health,
        observed,
        memory,
    );
    let server = ShardServer::new(service.clone(), connections, limits, load, metrics);
    let listeners = listeners.into_iter().map(Rc::new).collect();

    let mut tasks = Tasks::default();
    let mut draining = JoinSet::new();
    let serving = server.clone();
    let (stream_timers, draining_service) = (service.clone(), service.clone());
    let shards: Rc<[Shard]> = shards.into_iter().chain([sharing]).collect();
    for shard in &*shards {
        let runner = shard.clone();
        tasks.spawn("the shard of a hub", async move { runner.run().await });
    }
    tasks.spawn("the backends' streams", async move { stream_timers.run().await });
    if let Some(notices) = revoked {
        let revoking = service.clone();
        tasks.spawn("the revocations", async move {
            revoking.end_revoked(notices).await;
            // The senders are gone: the gateway is shutting down.
            std::future::pending().await
        });
    }
    let asked = service.clone();
    tasks.spawn("the questions of the status page", async move { asked.answer(questions).await });
    tasks.spawn("the server", async move { serving.run(accepted, listeners).await });
    tasks.spawn(
        "the configuration changes",
        apply_changes(changes, Rc::clone(&shards), service, server.clone()),
    );
    tokio::select! {
        ended = tasks.any_ended() => Err(ended.to_string()),
        () = stop(&mut phases, &mut draining, (&shards, &draining_service), &server) => Ok(()),
    }
}

/// Applies configuration changes. Ends with the shard.
async fn apply_changes(
    mut changes: watch::Receiver<Option<ConfigChange>>,
    shards: Rc<[Shard]>,
    service: Service,
    server: ShardServer<Service>,
) {
    while changes.changed().await.is_ok() {
        let change = changes.borrow_and_update().clone();
        if let Some(ConfigChange { router, connections, requests }) = change {
            for shard in &*shards {
                shard.set_write_timeout(connections.write_timeout);
            }
            service.change(router, requests);
            server.update_settings(connections);
        }
    }
    // The sender is gone: the gateway is shutting down.
    std::future::pending().await
}

/// Follows the phases of a shutdown. Returns when no connection is left.
async fn stop(
    phases: &mut watch::Receiver<StopPhase>,
    tasks: &mut JoinSet<()>,
    (shards, service): (&[Shard], &Service),
    server: &ShardServer<Service>,
) {
    let phase = phases.wait_for(|phase| *phase != StopPhase::Serving).await.map(|phase| *phase);
    match phase {
        Ok(StopPhase::Draining(over)) => {
            for shard in shards {
                let shard = shard.clone();
                tasks.spawn_local(async move { shard.drain(over).await });
            }
            let service = service.clone();
            tasks.spawn_local(async move { service.drain(over).await });
        }
        Ok(_) => {}
        // The sender is gone: the gateway has ended.
        Err(_gone) => return,
    }
    server.drain();
    tokio::select! {
        // Kept streams go on without their readers.
        ((), ()) = async { tokio::join!(server.all_closed(), service.pumps_ended()) } => return,
        _ = phases.wait_for(|phase| *phase == StopPhase::Cut) => {}
    }
    server.cut();
    server.all_closed().await;
}
