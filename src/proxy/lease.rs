//! A connection in the hands of one request, until its response is complete.

use std::rc::Rc;
use std::time::Duration;

use super::connection::Connection;
use super::facts::Place;
use super::http2;
use super::pool::Pool;
use super::upload::Watch;

/// Dropped before [`complete`](Self::complete), it takes the request back: over HTTP/1.1 the
/// connection is closed, over HTTP/2 the stream is
/// reset.
#[derive(Debug)]
pub(super) enum Lease {
    /// Goes back to its pool.
    Own {
        connection: Connection,
        pool: Pool,
        watch: Rc<Watch>,
        /// For how long it is kept at most; `None`: as the settings say.
        keep_alive: Option<Duration>,
    },
    /// Was never taken from it; the handle keeps it open.
    Shared { _connection: http2::Connection },
}

impl Lease {
    /// The connection is kept no longer than this for the next request. Zero: it is closed.
    pub(super) fn keep_for(&mut self, at_most: Duration) {
        if let Self::Own { keep_alive, .. } = self {
            *keep_alive = Some(keep_alive.map_or(at_most, |known| known.min(at_most)));
        }
    }

    /// The connection speaks something else now; what is left is its place among the others.
    pub(super) fn into_place(self) -> Place {
        match self {
            Self::Own { connection, .. } => connection.into_place(),
            Self::Shared { .. } => unreachable!("nothing else is spoken on a shared connection"),
        }
    }

    /// The response is complete.
    pub(super) fn complete(self) {
        if let Self::Own { connection, pool, watch, keep_alive } = self
            // The backend did not wait for all of the request, and would take its rest for another.
            && watch.is_complete()
        {
            pool.put(connection, keep_alive);
        }
    }
}
