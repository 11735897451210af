//! The end of the gateway: in good order on the first signal, at once on the second.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::shard::ShardThread;
use crate::health::Health;

/// What is cut off has so long to be gone.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for the first signal, and then stops: not ready, no new connections, every stream is told
/// when to come back, running requests finish, within `drain`.
pub(super) async fn serve_until_stopped(
    signals: &mut Signals,
    mut shards: Vec<ShardThread>,
    health: &Health,
    accepting: &CancellationToken,
    drain: Duration,
) -> Result<(), Error> {
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = any_ended(&mut shards) => return Err(Error::Shard("see the log".into())),
    };
    tracing::info!(signal, ?drain, "stopping");
    health.set_draining();
    accepting.cancel();
    for shard in &shards {
        shard.drain();
    }
    tokio::select! {
        () = all_ended(&mut shards) => {
            tracing::info!("stopped");
            return Ok(());
        }
        signal = signals.next() => {
            tracing::warn!(signal, "stopping at once");
            return Err(Error::Unfinished);
        }
        () = time::sleep(drain) => tracing::warn!("not everything finished in time"),
    }
    for shard in &shards {
        shard.cut();
    }
    match time::timeout(CUT_GRACE, all_ended(&mut shards)).await {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(())
        }
        Err(_elapsed) => Err(Error::Unfinished),
    }
}

async fn all_ended(shards: &mut [ShardThread]) {
    for shard in shards {
        shard.ended().await;
    }
}

async fn any_ended(shards: &mut [ShardThread]) {
    let ended = std::pin::pin!(std::future::poll_fn(|cx| {
        for shard in shards.iter_mut() {
            if std::pin::pin!(shard.ended()).poll(cx).is_ready() {
                return std::task::Poll::Ready(());
            }
        }
        std::task::Poll::Pending
    }));
    ended.await;
}
