//! The metrics of one open event stream.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::auth::QuotaGuard;
use crate::metrics::RouteMetrics;
use crate::server::connection::{ConnectionState, HttpProtocol};

/// An open stream, counted under its route and protocol.
#[derive(Debug)]
pub(super) struct CountedStream {
    connection: Rc<ConnectionState>,
    route: Arc<RouteMetrics>,
    protocol: HttpProtocol,
    opened: Instant,
    // Makes room for another stream of the same identity.
    _quota: Option<QuotaGuard>,
}

impl CountedStream {
    pub(super) fn open(
        connection: Rc<ConnectionState>,
        route: Arc<RouteMetrics>,
        quota: Option<QuotaGuard>,
    ) -> Self {
        let protocol = connection.protocol();
        route.stream_opened(protocol.as_str());
        Self { connection, route, protocol, opened: Instant::now(), _quota: quota }
    }

    /// The protocol of its connection.
    pub(super) fn protocol(&self) -> HttpProtocol {
        self.protocol
    }

    /// Returns, once, whether the connection asks for a write that shows if the client is still
    /// there.
    pub(super) fn take_probe_request(&self) -> bool {
        self.connection.take_probe_request()
    }

    /// Whether the connection was closed because nothing could be written.
    pub(super) fn is_stalled(&self) -> bool {
        self.connection.is_stalled()
    }

    /// Records its end. Called once.
    pub(super) fn close(&self, reason: &str) {
        self.route.stream_closed(self.protocol.as_str(), reason, self.opened.elapsed());
    }
}
