//! The whole gateway: its wiring and its life cycle.
//!
//! Owns threads, tasks, signals, reloads and shutdown; does not know what a request means. There
//! are two steps. [`Gateway::open`] binds all sockets and loads all certificates, so that an error
//! ends the start before a client is served. [`Gateway::run`] serves until a signal, then shuts
//! down gracefully.
//!
//! Threads: the calling thread runs the source, the hub and the acceptors; there is one more for
//! each shard, and one for the admin listener. If a thread, or a task that has to run as long as
//! the gateway, ends before the shutdown, the process exits: a gateway that half works would look
//! alive.

mod admin_thread;
mod auth_warnings;
mod bus;
mod certificates;
mod config_change;
mod config_loader;
mod duration_text;
mod error;
mod follow_warnings;
mod hubs;
mod inspect;
mod inspection;
mod keep_warnings;
mod monitor;
mod name_set;
mod opened;
mod presence_warnings;
mod probe;
mod redis;
mod reload;
mod revoking;
mod serve;
mod shard;
mod share_warnings;
mod shared;
mod sockets;
mod source_parts;
mod sources;
mod state_file;
mod stop;
mod systemd;
mod takeover;
mod tasks;
mod thread;
mod unfillable;

use std::io;
use std::sync::Arc;

use tokio::runtime::LocalRuntime;

pub use self::config_loader::ConfigLoader;
pub use self::error::Error;
pub use self::inspect::inspect;
use ssegate_hub::{CloseReason, GapReason};

use self::sockets::{Inherited, Sockets};
use self::takeover::Predecessor;
use crate::auth::{JwksErrorKind, RevocationOrigin};
use crate::config::Settings;
use crate::log::LogOutput;
use crate::metrics::{LabelValues, Metrics};
use crate::route::Router;
use crate::server::descriptors;
use crate::service::{BackendStreamEnd, KeptStreams, SharedStreams};
use crate::source::redis::SourceErrorKind;

/// The log target of the listening addresses, which a terminal shows as a banner instead.
pub const OPENED: &str = "ssegate::opened";

/// A gateway whose sockets are bound, and that does not serve yet.
#[derive(Debug)]
pub struct Gateway {
    // As configured: the base that reloads are compared with.
    configured: Settings,
    // With the ports that the system chose for port 0.
    settings: Settings,
    router: Arc<Router>,
    metrics: Metrics,
    sockets: Sockets,
    predecessor: Option<Predecessor>,
}

/// Where a gateway gets its sockets from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMode {
    /// It binds them, or inherits them from systemd.
    Fresh,
    /// From the running gateway, which then drains.
    Takeover,
}

impl Gateway {
    /// Binds all sockets and loads all certificates.
    ///
    /// # Errors
    /// A port is in use, a certificate cannot be loaded, there is no gateway to take over from, and
    /// so on. Each message says what to do.
    pub fn open(mut settings: Settings, start: StartMode) -> Result<Self, Error> {
        descriptors::raise_limit();
        descriptors::check_limit(settings.shards, sockets::addresses(&settings).len())
            .map_err(Error::TooFewFiles)?;
        // The router holds the routes.
        let configured = Settings { routes: Vec::new(), ..settings.clone() };
        let metrics = Metrics::new()?;
        create_series(&metrics);
        let router = Arc::new(Router::new(&settings.routes, None)?);
        let (mut inherited, predecessor) = match start {
            StartMode::Fresh => (Inherited::from_systemd()?, None),
            StartMode::Takeover => {
                let first = settings.listeners.first().map(|listener| listener.address);
                let first = first.expect("the configuration requires a listener");
                let (inherited, predecessor) = takeover::request_sockets(first)?;
                (inherited, Some(predecessor))
            }
        };
        let sockets = Sockets::open(&mut settings, &mut inherited)?;
        let unused = inherited.unused();
        if start == StartMode::Fresh && !unused.is_empty() {
            return Err(Error::UnusedSockets(unused));
        }
        Ok(Self { configured, settings, router, metrics, sockets, predecessor })
    }

    /// The settings, with the ports that the system chose for port 0.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Serves until SIGTERM or SIGINT, then shuts down gracefully. Blocks. SIGHUP and the admin
    /// listener reload the settings with `load`, if there is one. `output` is where the access log is written, and how the level
    /// of the log is changed.
    ///
    /// # Errors
    /// A thread or task has failed, or not everything finished in the drain time.
    pub fn run(self, load: Option<ConfigLoader>, output: LogOutput) -> Result<(), Error> {
        block_on(serve::serve(self, load, output))?
    }
}

/// Runs `work` on this thread. Afterwards does not wait for blocking calls that still run: a read from a network disk
/// that does not respond, or a name resolution without a reply.
fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = LocalRuntime::new()?;
    let result = runtime.block_on(work);
    // Dropping it would wait for its threads.
    runtime.shutdown_background();
    Ok(result)
}

fn create_series(metrics: &Metrics) {
    let ends = BackendStreamEnd::ALL.map(BackendStreamEnd::as_str);
    let fetches = JwksErrorKind::ALL.map(JwksErrorKind::as_str);
    metrics.create_series(LabelValues {
        jwks_fetches: &[&["success"][..], &fetches].concat(),
        gaps: &GapReason::ALL.map(GapReason::as_str),
        streams_closed: &[&CloseReason::ALL.map(CloseReason::as_str)[..], &ends].concat(),
        source_errors: &SourceErrorKind::ALL.map(SourceErrorKind::as_str),
        kept_resumed: &KeptStreams::RESUMED_BY,
        kept_cancelled: &KeptStreams::CANCELLED_FOR,
        shared_ended: &SharedStreams::ENDED_FOR,
        revocations: &RevocationOrigin::ALL.map(RevocationOrigin::as_str),
    });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::task::spawn_blocking;

    use super::block_on;

    #[test]
    fn the_end_does_not_wait_for_a_thread_that_blocks() {
        let (_open, never) = mpsc::channel::<()>();
        let (starting, started) = mpsc::channel();
        let begin = async {
            drop(spawn_blocking(move || {
                starting.send(()).expect("it is awaited");
                never.recv()
            }));
            started.recv().expect("the thread runs");
        };
        // With a wait in it this test would not end: `_open` lives longer.
        block_on(begin).expect("a runtime");
    }
}
