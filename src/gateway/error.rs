//! The errors of starting and running a gateway. Each message says what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::route::RouterError;
use crate::server::descriptors::TooFewDescriptors;
use crate::server::listener::ListenError;

impl Error {
    /// The address whose port is in use, if that is the error.
    pub fn address_in_use(&self) -> Option<SocketAddr> {
        match self {
            Self::Listen(error) => error.address_in_use(),
            _ => None,
        }
    }

    /// Whether the configuration is at fault, so that a restart would fail in the same way.
    pub fn is_config_error(&self) -> bool {
        match self {
            Self::Listen(ListenError::Tls(_)) | Self::Router(_) => true,
            // The socket unit does not match gateway.yaml.
            Self::InheritedSocket(_) | Self::UnusedSockets(_) => true,
            _ => false,
        }
    }
}

/// Why the gateway could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener cannot be bound, or its certificate cannot be loaded.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Routes that conflict.
    #[error("{0}")]
    Router(#[from] RouterError),
    /// The metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A thread, runtime or signal handler could not be created.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The limit of open files is too low to serve clients.
    #[error(
        "this process may open {} files, and serving needs {} at least: raise LimitNOFILE= in the \
         systemd unit, or ulimit -n",
        .0.limit, .0.needed
    )]
    TooFewFiles(TooFewDescriptors),
    /// systemd passed a socket that is not a TCP listener.
    #[error(
        "systemd passed a socket that is not a TCP listener: {0}; use ListenStream= with an IP \
         address and port in the socket unit"
    )]
    InheritedSocket(io::Error),
    /// systemd passed sockets that match no listener.
    #[error(
        "systemd passed a socket for {}, but no listener in gateway.yaml has that address; use the \
         same IP address and port in ListenStream= and in gateway.yaml",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    UnusedSockets(Vec<SocketAddr>),
    /// There is no gateway to take over from, or it does not respond.
    #[error("cannot take over{}: {cause}; start without --takeover if no gateway runs here",
        .path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default())]
    Takeover {
        /// The path of its takeover socket, if the state directory is known.
        path: Option<PathBuf>,
        /// The error of the socket, or of the exchange over it.
        cause: io::Error,
    },
    /// A task ended that has to run as long as the gateway.
    #[error("a task has failed: {0}")]
    Task(String),
    /// A thread failed, or ended before the shutdown.
    #[error("a thread has failed: {what}: {cause}")]
    Thread {
        /// The name of the thread.
        what: &'static str,
        /// Its error.
        cause: String,
    },
    /// The drain timed out, or a second signal stopped it.
    #[error("stopped before all requests and streams had finished")]
    Unfinished,
}
