//! The thread of one shard: its connections, its subscribers, its own event loop.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use tokio::runtime::LocalRuntime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::health::Health;
use crate::hub::{Shard, ShardLink};
use crate::metrics::Metrics;
use crate::route::Router;
use crate::server::ConnectionSettings;
use crate::server::listener::{Accepted, Listener};
use crate::server::shard_server::ShardServer;
use crate::service::Service;

/// What a shard is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) link: ShardLink,
    pub(super) accepted: mpsc::Receiver<Accepted>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) listeners: Vec<Listener>,
    pub(super) router: Arc<Router>,
    pub(super) connections: ConnectionSettings,
    pub(super) bus: Option<SocketAddr>,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Streams end, running requests finish.
    Draining,
    /// Whatever is left is cut off.
    Cut,
}

/// The other end of a shard's thread.
#[derive(Debug)]
pub(super) struct ShardThread {
    phase: watch::Sender<Phase>,
    ended: oneshot::Receiver<()>,
}

impl ShardThread {
    pub(super) fn start(parts: Parts) -> io::Result<Self> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let (ending, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("shard".into());
        // It tells its end through `ended`, and nobody waits for more.
        drop(thread.spawn(move || {
            match LocalRuntime::new() {
                Ok(runtime) => runtime.block_on(serve(parts, phases)),
                Err(error) => tracing::error!(%error, "a shard cannot run"),
            }
            if ending.send(()).is_err() {
                tracing::debug!("nobody waits for the end of this shard");
            }
        })?);
        Ok(Self { phase, ended })
    }

    /// Lets the streams end, and running requests finish.
    pub(super) fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Ends what is left.
    pub(super) fn cut(&self) {
        self.phase.send_replace(Phase::Cut);
    }

    /// Waits until the thread has ended. Cancel safe.
    pub(super) async fn ended(&mut self) {
        if !self.ended.is_terminated() {
            // An error means that it ended without a word: in a panic.
            drop((&mut self.ended).await);
        }
    }
}

async fn serve(parts: Parts, mut phases: watch::Receiver<Phase>) {
    let Parts { link, accepted, load, listeners, router, connections, bus, health, metrics } =
        parts;
    let shard = Shard::new(link, connections.write_timeout, metrics.for_shard());
    let service = Service::new(router, shard.clone(), bus, health, metrics.clone());
    let server = ShardServer::new(service, connections, load, metrics);
    let listeners = listeners.into_iter().map(Rc::new).collect();
    tokio::select! {
        () = shard.run() => {}
        () = server.run(accepted, listeners) => {}
        () = stop(&mut phases, &shard, &server) => {}
    }
}

/// Follows the phases of a stop; returns when no connection is left.
async fn stop(phases: &mut watch::Receiver<Phase>, shard: &Shard, server: &ShardServer<Service>) {
    // An error is the end of the gateway, and that of its shards.
    if phases.wait_for(|phase| *phase >= Phase::Draining).await.is_err() {
        return;
    }
    shard.drain();
    server.finish();
    tokio::select! {
        () = server.all_gone() => return,
        _ = phases.wait_for(|phase| *phase == Phase::Cut) => {}
    }
    server.cut();
    server.all_gone().await;
}
