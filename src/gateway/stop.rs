//! Shutdown: graceful on the first signal, at once on the second.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::duration_text::DurationText;
use super::hubs::Hubs;
use super::shard::ShardThread;
use super::tasks::Tasks;
use super::{Error, systemd};
use crate::config::Settings;
use crate::health::Health;
use crate::log::LevelControl;
use crate::source::recorded::{RecordingEnd, RecordingEnds};

/// Added to the drain time, so that the last streams can flush their `retry:`.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long closing the remaining connections may take.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// The times of a graceful shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DrainSettings {
    /// How long new connections are still accepted, until load balancers have seen `/readyz` fail.
    /// New streams are told to reconnect.
    pub(super) delay: Duration,
    /// The time over which streams end, and the timeout of running requests.
    pub(super) drain: Duration,
}

impl DrainSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { delay: settings.drain_delay, drain: settings.drain }
    }
}

/// Handlers of SIGTERM and SIGINT, which shut the gateway down, of SIGUSR1, which changes the level of the log, and
/// of SIGUSR2, whose default action would kill the gateway.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    user1: Signal,
    user2: Signal,
    level: LevelControl,
}

impl Signals {
    pub(super) fn new(level: LevelControl) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            level,
        })
    }

    /// Waits for SIGTERM or SIGINT. Cancel safe.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.user1.recv() => {
                    self.level.toggle();
                    let level = self.level.current();
                    tracing::info!(signal = "SIGUSR1", level, "the level of the log was changed");
                }
                _ = self.user2.recv() => {
                    let signal = "SIGUSR2";
                    tracing::info!(signal, "signal ignored; use SIGHUP to reload the configuration");
                }
            }
        }
    }
}

/// What a shutdown acts on.
#[derive(Debug)]
pub(super) struct StopHandles {
    pub(super) health: Health,
    /// Cancelled to stop the acceptors.
    pub(super) stop_accepting: CancellationToken,
    /// Cancelled to stop the admin listener.
    pub(super) stop_admin: CancellationToken,
    pub(super) drain_settings: Rc<Cell<DrainSettings>>,
    pub(super) hubs: Hubs,
    pub(super) recording_ends: RecordingEnds,
}

/// Waits for a signal, a successor, or the failure of a thread or task. After a signal or a
/// takeover it shuts down: sets `/readyz` to not ready, stops accepting, ends streams with a
/// `retry:`, and lets running requests finish.
pub(super) async fn serve_until_stopped(
    signals: &mut Signals,
    tasks: &mut Tasks,
    mut shards: Vec<ShardThread>,
    handles: StopHandles,
    taken_over: impl Future<Output = ()>,
) -> Result<(), Error> {
    let StopHandles { health, stop_accepting, stop_admin, drain_settings, hubs, recording_ends } =
        handles;
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = taken_over => "takeover",
        ended = any_ended(&mut shards) => return Err(ended_early(ended)),
        ended = tasks.any_ended() => return Err(Error::Task(ended.to_string())),
    };
    let DrainSettings { mut delay, drain } = drain_settings.get();
    if signal == "takeover" {
        // The successor already accepts on all sockets, the admin listener's included.
        delay = Duration::ZERO;
        stop_admin.cancel();
    } else {
        systemd::stopping();
    }
    let (delay_text, drain_text) = (DurationText(delay), DurationText(drain));
    tracing::info!(signal, delay = %delay_text, drain = %drain_text, "stopping");
    health.set_draining();
    hubs.leave_fleet();
    let at_once = |signal| {
        tracing::warn!(signal, "stopping at once");
        Err(Error::Unfinished)
    };
    tokio::select! {
        signal = signals.next() => return at_once(signal),
        () = time::sleep(delay) => {}
    }
    stop_accepting.cancel();
    for shard in &shards {
        shard.drain(drain);
    }
    let at_rest = async |shards: &mut [ShardThread]| {
        all_ended(shards, &hubs).await?;
        // The next gateway knows of nothing that came before it.
        recording_ends.end().await;
        tracing::info!("stopped");
        Ok(())
    };
    tokio::select! {
        ended = at_rest(&mut shards) => return ended,
        signal = signals.next() => return at_once(signal),
        () = time::sleep(drain + FLUSH_TIMEOUT) => {
            tracing::warn!("drain timed out; closing the remaining connections");
        }
    }
    for shard in &shards {
        shard.cut();
    }
    match time::timeout(CUT_GRACE + RecordingEnd::MOST, at_rest(&mut shards)).await {
        Ok(ended) => ended,
        Err(_elapsed) => Err(Error::Unfinished),
    }
}

/// Waits for the shards, and until no other gateway needs this one.
async fn all_ended(shards: &mut [ShardThread], hubs: &Hubs) -> Result<(), Error> {
    for shard in shards {
        shard.ended().await?;
    }
    hubs.farewell().await;
    Ok(())
}

async fn any_ended(shards: &mut [ShardThread]) -> Result<(), Error> {
    std::future::poll_fn(|cx| {
        let mut ends = shards.iter_mut().map(|shard| pin!(shard.ended()).poll(cx));
        ends.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// The error for a shard that ended before the shutdown.
fn ended_early(ended: Result<(), Error>) -> Error {
    let cause = || Error::Thread { what: "shard", cause: "it ended before the shutdown".into() };
    ended.err().unwrap_or_else(cause)
}
