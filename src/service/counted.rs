//! The metrics of one open event stream.

use std::rc::Rc;
use std::sync::Arc;

use ssegate_hub::{ChannelName, ResumedFrom};
use tokio::time::Instant;

use super::request_log::StreamLog;
use super::stream_guard::StreamGuard;
use super::stream_stopper::StreamStopper;
use crate::metrics::RouteMetrics;
use crate::server::connection::{ConnectionState, HttpProtocol};
use crate::source::presence::PresentStream;

/// An open stream, counted under its route and protocol.
#[derive(Debug)]
pub(super) struct CountedStream {
    connection: Rc<ConnectionState>,
    route: Arc<RouteMetrics>,
    protocol: HttpProtocol,
    opened: Instant,
    guard: Option<StreamGuard>,
    // `None`: it is not logged.
    log: Option<Box<StreamLog>>,
}

impl CountedStream {
    pub(super) fn open(
        connection: Rc<ConnectionState>,
        route: Arc<RouteMetrics>,
        guard: Option<StreamGuard>,
    ) -> Self {
        let protocol = connection.protocol();
        route.stream_opened(protocol.as_str());
        Self { connection, route, protocol, opened: Instant::now(), guard, log: None }
    }

    /// Records that the stream is open and follows `channels`, and that `stopper` ends it from
    /// outside.
    pub(super) fn watch(&self, channels: Box<[ChannelName]>, stopper: StreamStopper) {
        if let Some(guard) = &self.guard {
            guard.watch(channels, stopper);
        }
    }

    /// Keeps its member present for as long as it is open.
    pub(super) fn keep(&mut self, present: PresentStream) {
        self.guard = Some(StreamGuard::of_member(self.guard.take(), present));
    }

    /// Sets its lines in the access log.
    pub(super) fn log_in(&mut self, log: Box<StreamLog>) {
        self.log = Some(log);
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

    /// Records its end, and what was sent: events, if they are counted, and bytes. Called once.
    pub(super) fn close(
        &self,
        reason: &'static str,
        sent: (Option<u64>, u64),
        resumed: Option<ResumedFrom>,
    ) {
        let age = self.opened.elapsed();
        self.route.stream_closed(self.protocol.as_str(), reason, age);
        if let Some(log) = &self.log {
            log.close(reason, sent, age, resumed);
        }
    }
}
