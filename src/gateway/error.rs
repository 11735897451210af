//! Why a gateway does not start, or does not go on. Each says what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::route::RouterError;
use crate::server::descriptors::TooFewDescriptors;
use crate::server::listener::ListenError;

impl Error {
    /// The address whose port somebody else has.
    pub fn taken(&self) -> Option<SocketAddr> {
        match self {
            Self::Listen(error) => error.address_in_use(),
            _ => None,
        }
    }

    /// Whether it is the configuration that has to change: another start would end in the same way.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            Self::Listen(ListenError::Tls(_)) | Self::Router(_) => true,
            // The socket unit and gateway.yaml do not belong together.
            Self::Inherited(_) | Self::Unused(_) => true,
            _ => false,
        }
    }
}

/// Why the gateway could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket cannot be opened, or a certificate cannot be used.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Routes that cannot stand together.
    #[error("{0}")]
    Router(#[from] RouterError),
    /// The metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The system gives no thread, event loop or signal.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The process may not open enough files to serve anybody.
    #[error(
        "this process may open {} files, and serving needs {} at least: raise LimitNOFILE= of the \
         unit, or ulimit -n",
        .0.limit, .0.needed
    )]
    Files(TooFewDescriptors),
    /// What systemd hands over is no socket that can be listened on.
    #[error("systemd hands over a socket of another kind than ListenStream= of TCP: {0}")]
    Inherited(io::Error),
    /// What systemd hands over is no listener's.
    #[error(
        "systemd hands over {}: no listener in gateway.yaml has that address; use the same in \
         ListenStream=, with the IP address",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Unused(Vec<SocketAddr>),
    /// There is no gateway to take over from, or it does not answer.
    #[error("cannot take over{}: {cause}; start without --takeover if no gateway runs here",
        .path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default())]
    Takeover {
        /// Where it was asked.
        path: Option<PathBuf>,
        /// What the system says.
        cause: io::Error,
    },
    /// A task ended that runs as long as the gateway.
    #[error("a task has failed: {0}")]
    Task(String),
    /// A thread failed, or ended before the stop.
    #[error("a thread has failed: {what}: {cause}")]
    Thread {
        /// Which.
        what: &'static str,
        /// How.
        cause: String,
    },
    /// Something still ran when the time for an orderly stop was over, or a second signal came.
    #[error("stopped before everything had finished")]
    Unfinished,
}
