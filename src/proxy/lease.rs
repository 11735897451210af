//! The use of a connection by one request, until its response is complete.

use std::rc::Rc;
use std::time::Duration;

use super::http1_connection::Http1Connection;
use super::http1_pool::Http1Pool;
use super::http2::Http2Connection;
use super::recorder::ConnectionSlot;
use super::upload_monitor::UploadMonitor;

/// Holds the connection of one request. Dropped before [`complete`](Self::complete), it cancels the
/// request: over HTTP/1.1 the connection is closed, over HTTP/2 the stream is reset.
#[derive(Debug)]
pub(super) enum Lease {
    /// HTTP/1.1: exclusive, and returned to its pool.
    Http1 {
        connection: Http1Connection,
        pool: Http1Pool,
        monitor: Rc<UploadMonitor>,
        /// The longest time to keep it idle; `None`: the pool's own.
        keep_alive: Option<Duration>,
    },
    /// HTTP/2: stays in the pool. The handle keeps it open if the pool drops it.
    Http2 { _connection: Http2Connection },
}

impl Lease {
    /// Keeps the connection idle no longer than this. Zero: closes it after this response.
    pub(super) fn keep_for(&mut self, at_most: Duration) {
        if let Self::Http1 { keep_alive, .. } = self {
            *keep_alive = Some(keep_alive.map_or(at_most, |known| known.min(at_most)));
        }
    }

    /// Returns the connection's slot after a protocol switch.
    pub(super) fn into_slot(self) -> ConnectionSlot {
        match self {
            Self::Http1 { connection, .. } => connection.into_slot(),
            Self::Http2 { .. } => unreachable!("upgrades are sent over HTTP/1.1 only"),
        }
    }

    /// The response is complete: returns the connection to its pool.
    pub(super) fn complete(self) {
        if let Self::Http1 { connection, pool, monitor, keep_alive } = self
            // After an early response the backend would read the rest of the body as another
            // request.
            && monitor.is_complete()
        {
            pool.put(connection, keep_alive);
        }
    }
}
