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
mod probe;
mod reload;
mod serve;
mod shard;
mod sockets;
mod stop;
mod systemd;
mod takeover;
mod tasks;
mod thread;

use std::sync::Arc;

use tokio::runtime::LocalRuntime;

pub use self::error::Error;
pub use self::inspect::inspect;
pub use self::reload::Load;
use self::sockets::{Inherited, Sockets};
use self::takeover::Predecessor;
use crate::config::Settings;
use crate::hub::{CloseReason, GapReason};
use crate::metrics::{Metrics, Reasons};
use crate::route::Router;
use crate::server::descriptors;
use crate::service::PassingEnd;
use crate::source::redis::SourceErrorKind;

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
        descriptors::raise_limit();
        descriptors::check_limit(settings.shards, sockets::addresses(&settings).len())
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
        LocalRuntime::new()?.block_on(serve::serve(self, load))
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
