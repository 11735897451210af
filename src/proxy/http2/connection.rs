//! The handle of an HTTP/2 connection to a backend.

use std::rc::Rc;

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::Driver;
use super::reason::Reason;
use super::response::ResponseFuture;
use super::shared::ConnectionShared;
use super::window::STREAM_WINDOW;
use crate::proxy::abort_on_drop::AbortOnDrop;
use crate::proxy::capacity::CapacityNotify;
use crate::proxy::recorder::ConnectionSlot;
use crate::proxy::upload::Upload;

/// An HTTP/2 connection to a backend. A cheap handle; the connection closes when the last handle is
/// dropped.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Http2Connection(Rc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Rc<ConnectionShared>,
    _task: AbortOnDrop,
    _slot: Rc<ConnectionSlot>,
}

impl Http2Connection {
    /// Starts HTTP/2 on a socket, and waits for the backend's SETTINGS. `capacity` is notified
    /// whenever there may be capacity for another request; `max_header` limits the header of a
    /// response, in octets.
    ///
    /// The handles own the task that drives the connection.
    ///
    /// # Errors
    /// The backend does not speak HTTP/2, or closes the connection.
    pub(in crate::proxy) async fn open<T>(
        socket: T,
        slot: Rc<ConnectionSlot>,
        capacity: &Rc<CapacityNotify>,
        max_header: usize,
    ) -> Result<Self, Reason>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let shared = Rc::new(ConnectionShared::new(Rc::clone(capacity), STREAM_WINDOW));
        let memory = slot.upload_memory().clone();
        let driver = Driver::new(socket, Rc::clone(&shared), max_header, memory);
        let task = AbortOnDrop(tokio::task::spawn_local(driver));
        std::future::poll_fn(|cx| shared.poll_open(cx)).await?;
        Ok(Self(Rc::new(Handle { shared, _task: task, _slot: slot })))
    }

    /// Sends a request on a new stream.
    pub(in crate::proxy) fn send(&self, request: Request<Upload>) -> ResponseFuture {
        self.0.shared.send(request)
    }

    /// The number of further requests that can be sent now.
    pub(in crate::proxy) fn available_streams(&self) -> usize {
        self.0.shared.available_streams()
    }

    /// Whether a body of this length fits the connection window even if the backend reads no other
    /// body.
    pub(in crate::proxy) fn takes_upload(&self, length: Option<u64>) -> bool {
        self.0.shared.takes_upload(length)
    }

    /// The number of reads that returned data so far.
    pub(in crate::proxy) fn arrivals(&self) -> u64 {
        self.0.shared.arrivals()
    }

    /// Reports that a request has timed out, which was sent after this many
    /// [arrivals](Self::arrivals).
    pub(in crate::proxy) fn request_timed_out(&self, arrivals: u64) {
        self.0.shared.request_timed_out(arrivals);
    }

    /// Whether a request has timed out and nothing has arrived since it was sent.
    pub(in crate::proxy) fn is_silent(&self) -> bool {
        self.0.shared.is_silent()
    }

    /// The number of open streams.
    pub(in crate::proxy) fn open_streams(&self) -> usize {
        self.0.shared.open_streams()
    }

    /// The maximum number of concurrent streams.
    pub(in crate::proxy) fn max_streams(&self) -> usize {
        self.0.shared.max_streams()
    }

    /// The number of requests sent so far.
    pub(in crate::proxy) fn opened_streams(&self) -> u32 {
        self.0.shared.opened_streams()
    }

    /// Whether it takes no further requests, ever.
    pub(in crate::proxy) fn is_unusable(&self) -> bool {
        self.0.shared.is_unusable()
    }

    /// The number of requests after which the backend sent GOAWAY(NO_ERROR), if it did while the
    /// connection was in use.
    pub(in crate::proxy) fn goaway_after(&self) -> Option<u32> {
        self.0.shared.goaway_after()
    }
}
