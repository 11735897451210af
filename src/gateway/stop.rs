//! The end of the gateway: in good order on the first signal, at once on the second.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::shard::ShardThread;
use super::tasks::Tasks;
use super::{Error, systemd};
use crate::config::Settings;
use crate::health::Health;

/// Streams that were ended last have so long to write their last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is cut off has so long to be gone.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// How a stop goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// New clients are still let in, and sent away, for so long: until whoever sends them knows.
    pub(super) delay: Duration,
    /// The streams end evenly over this, and running requests have as long.
    pub(super) drain: Duration,
}

impl Manner {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { delay: settings.drain_delay, drain: settings.drain }
    }
}

/// SIGTERM and SIGINT, which end it; SIGUSR1 and SIGUSR2, which would end it if nobody took them.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one that ends it. Cancel safe.
    async fn next(&mut self) -> &'static str {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.user1.recv() => "SIGUSR1",
                _ = self.user2.recv() => "SIGUSR2",
            };
            // Other servers open their log files anew; ours is standard error.
            tracing::info!(
                signal,
                "this signal means nothing here; SIGHUP reads the configuration again"
            );
        }
    }
}

/// What a stop ends, and how.
#[derive(Debug)]
pub(super) struct Switches {
    pub(super) health: Health,
    /// Cancelled: nobody is let in any more.
    pub(super) accepting: CancellationToken,
    /// Cancelled: operators are not let in any more.
    pub(super) administering: CancellationToken,
    pub(super) manner: Rc<Cell<Manner>>,
}

/// Waits for the first signal, for a successor, or for the end of something that must not end. Then
/// it stops: not ready, no new connections, every stream is told when to come back, running requests
/// finish.
pub(super) async fn serve_until_stopped(
    signals: &mut Signals,
    tasks: &mut Tasks,
    mut shards: Vec<ShardThread>,
    switches: Switches,
    relieved: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Switches { health, accepting, administering, manner } = switches;
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = relieved => "takeover",
        ended = any_ended(&mut shards) => return Err(too_early(ended)),
        ended = tasks.any_ended() => return Err(Error::Task(ended.to_string())),
    };
    let Manner { mut delay, drain } = manner.get();
    if signal == "takeover" {
        // Whoever comes has a gateway to come to, and so have operators.
        delay = Duration::ZERO;
        administering.cancel();
    } else {
        systemd::stopping();
    }
    tracing::info!(signal, ?delay, ?drain, "stopping");
    health.set_draining();
    let at_once = |signal| {
        tracing::warn!(signal, "stopping at once");
        Err(Error::Unfinished)
    };
    tokio::select! {
        signal = signals.next() => return at_once(signal),
        () = time::sleep(delay) => {}
    }
    accepting.cancel();
    for shard in &shards {
        shard.drain(drain);
    }
    tokio::select! {
        ended = all_ended(&mut shards) => return ended,
        signal = signals.next() => return at_once(signal),
        () = time::sleep(drain + LAST_WORDS) => tracing::warn!("not everything finished in time"),
    }
    for shard in &shards {
        shard.cut();
    }
    match time::timeout(CUT_GRACE, all_ended(&mut shards)).await {
        Ok(ended) => ended,
        Err(_elapsed) => Err(Error::Unfinished),
    }
}

async fn all_ended(shards: &mut [ShardThread]) -> Result<(), Error> {
    for shard in shards {
        shard.ended().await?;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn any_ended(shards: &mut [ShardThread]) -> Result<(), Error> {
    std::future::poll_fn(|cx| {
        let mut ends = shards.iter_mut().map(|shard| pin!(shard.ended()).poll(cx));
        ends.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Nobody has told it to.
fn too_early(ended: Result<(), Error>) -> Error {
    let cause = || Error::Thread { what: "shard", cause: "it ended before the stop".into() };
    ended.err().unwrap_or_else(cause)
}
