//! A stream in the metrics, from its opening to its end.

use std::rc::Rc;

use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::server::connection::{ConnectionState, Protocol};

/// An open stream, counted under its route and protocol.
#[derive(Debug)]
pub(super) struct CountedStream {
    connection: Rc<ConnectionState>,
    route: Rc<str>,
    protocol: Protocol,
    opened: Instant,
    metrics: Metrics,
}

impl CountedStream {
    pub(super) fn open(connection: Rc<ConnectionState>, route: Rc<str>, metrics: Metrics) -> Self {
        let protocol = connection.protocol();
        metrics.stream_opened(&route, protocol.as_str());
        Self { connection, route, protocol, opened: Instant::now(), metrics }
    }

    /// What carries it.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether something is to be written, to see whether the client is there.
    pub(super) fn takes_probe(&self) -> bool {
        self.connection.takes_probe()
    }

    /// Whether its connection is cut because nothing could be written.
    pub(super) fn is_stalled(&self) -> bool {
        self.connection.is_stalled()
    }

    /// It ended for this reason. Said once.
    pub(super) fn close(&self, reason: &str) {
        let protocol = self.protocol.as_str();
        self.metrics.stream_closed(&self.route, protocol, reason, self.opened.elapsed());
    }
}
