//! The thread of one shard: its connections, its subscribers, its own event loop.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Error;
use super::reload::Change;
use super::tasks::Tasks;
use super::thread::Thread;
use crate::health::Health;
use crate::hub::{Shard, ShardLink};
use crate::metrics::Metrics;
use crate::route::Router;
use crate::server::ConnectionSettings;
use crate::server::listener::{Accepted, Listener};
use crate::server::shard_server::{Bounds, ShardServer};
use crate::service::{RequestSettings, Service};

/// What a shard is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) link: ShardLink,
    pub(super) accepted: mpsc::Receiver<Accepted>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) listeners: Vec<Listener>,
    pub(super) router: Arc<Router>,
    pub(super) connections: ConnectionSettings,
    pub(super) requests: RequestSettings,
    pub(super) bounds: Bounds,
    pub(super) bus: Option<SocketAddr>,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) changes: watch::Receiver<Option<Change>>,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Streams end, over so long, and running requests finish.
    Draining(Duration),
    /// Whatever is left is cut off.
    Cut,
}

/// The other end of a shard's thread.
#[derive(Debug)]
pub(super) struct ShardThread {
    phase: watch::Sender<Phase>,
    thread: Thread,
}

impl ShardThread {
    pub(super) fn start(parts: Parts) -> io::Result<Self> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let thread = Thread::start("shard", move || serve(parts, phases))?;
        Ok(Self { phase, thread })
    }

    /// Lets the streams end, evenly over `over`, and running requests finish.
    pub(super) fn drain(&self, over: Duration) {
        self.phase.send_replace(Phase::Draining(over));
    }

    /// Ends what is left.
    pub(super) fn cut(&self) {
        self.phase.send_replace(Phase::Cut);
    }

    /// Waits until the thread has ended. Cancel safe.
    ///
    /// # Errors
    /// It failed, or ended in a panic.
    pub(super) async fn ended(&mut self) -> Result<(), Error> {
        self.thread.ended().await
    }
}

/// Runs until the stop is over. Everything is a task of its own: the future that an event loop is
/// started with has its turn only after many tasks.
async fn serve(parts: Parts, mut phases: watch::Receiver<Phase>) -> Result<(), String> {
    let Parts { link, accepted, load, listeners, router, connections, .. } = parts;
    let Parts { bus, health, metrics, changes, requests, bounds, .. } = parts;
    let shard = Shard::new(link, connections.write_timeout, metrics.for_shard());
    let requests = (requests, bounds.clients.clone());
    let memory = bounds.upload_memory.clone();
    let service =
        Service::new(router, requests, shard.clone(), bus, health, metrics.clone(), memory);
    let server = ShardServer::new(service.clone(), connections, bounds, load, metrics);
    let listeners = listeners.into_iter().map(Rc::new).collect();

    let mut tasks = Tasks::default();
    let mut draining = JoinSet::new();
    let (dealing, serving) = (shard.clone(), server.clone());
    let (draining_service, visiting) = (service.clone(), service.clone());
    tasks.own("the hub's side", async move { dealing.run().await });
    tasks.own("the backends' streams", async move { visiting.run().await });
    tasks.own("the server", async move { serving.run(accepted, listeners).await });
    tasks.own("the changes", follow(changes, shard.clone(), service, server.clone()));
    tokio::select! {
        ended = tasks.any_ended() => Err(ended.to_string()),
        () = stop(&mut phases, &mut draining, (&shard, &draining_service), &server) => Ok(()),
    }
}

/// Takes over what is new in the configuration. Ends with the shard.
async fn follow(
    mut changes: watch::Receiver<Option<Change>>,
    shard: Shard,
    service: Service,
    server: ShardServer<Service>,
) {
    while changes.changed().await.is_ok() {
        let change = changes.borrow_and_update().clone();
        if let Some(Change { router, connections, requests }) = change {
            shard.set_write_timeout(connections.write_timeout);
            service.change(router, requests);
            server.change(connections);
        }
    }
    // Who sends them is gone, and with it the gateway.
    std::future::pending().await
}

/// Follows the phases of a stop; returns when no connection is left.
async fn stop(
    phases: &mut watch::Receiver<Phase>,
    tasks: &mut JoinSet<()>,
    (shard, service): (&Shard, &Service),
    server: &ShardServer<Service>,
) {
    let phase = phases.wait_for(|phase| *phase != Phase::Serving).await.map(|phase| *phase);
    match phase {
        Ok(Phase::Draining(over)) => {
            let (shard, service) = (shard.clone(), service.clone());
            tasks.spawn_local(async move { shard.drain(over).await });
            tasks.spawn_local(async move { service.drain(over).await });
        }
        Ok(_) => {}
        // The end of the gateway is that of its shards.
        Err(_gone) => return,
    }
    server.finish();
    tokio::select! {
        () = server.all_gone() => return,
        _ = phases.wait_for(|phase| *phase == Phase::Cut) => {}
    }
    server.cut();
    server.all_gone().await;
}
