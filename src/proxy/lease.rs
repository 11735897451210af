//! The use of a connection by one request, until its response is complete.

use std::rc::Rc;
use std::time::Duration;

use super::connection::Connection;
use super::facts::Place;
use super::http2::Http2Connection;
use super::pool::Pool;
use super::upload::Watch;

/// Holds the connection of one request. Dropped before [`complete`](Self::complete), it cancels the
/// request: over HTTP/1.1 the connection is closed, over HTTP/2 the stream is reset.
#[derive(Debug)]
pub(super) enum Lease {
    /// HTTP/1.1: exclusive, and returned to its pool.
    Own {
        connection: Connection,
        pool: Pool,
        watch: Rc<Watch>,
        /// The longest time to keep it idle; `None`: the pool's own.
        keep_alive: Option<Duration>,
    },
    /// HTTP/2: stays in the pool. The handle keeps it open if the pool drops it.
    Shared { _connection: Http2Connection },
}

impl Lease {
    /// Keeps the connection idle no longer than this. Zero: closes it after this response.
    pub(super) fn keep_for(&mut self, at_most: Duration) {
        if let Self::Own { keep_alive, .. } = self {
            *keep_alive = Some(keep_alive.map_or(at_most, |known| known.min(at_most)));
        }
    }

    /// Returns the connection's slot after a protocol switch.
    pub(super) fn into_place(self) -> Place {
        match self {
            Self::Own { connection, .. } => connection.into_place(),
            Self::Shared { .. } => unreachable!("upgrades are sent over HTTP/1.1 only"),
        }
    }

    /// The response is complete: returns the connection to its pool.
    pub(super) fn complete(self) {
        if let Self::Own { connection, pool, watch, keep_alive } = self
            // After an early response the backend would read the rest of the body as another
            // request.
            && watch.is_complete()
        {
            pool.put(connection, keep_alive);
        }
    }
}
