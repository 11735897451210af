//! The handle of a connection, by which requests are sent on it.

use std::rc::Rc;

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::Driver;
use super::link::Link;
use super::reason::Reason;
use super::response::Exchange;
use super::window::STREAM_WINDOW;
use crate::proxy::connection::Closing;
use crate::proxy::facts::Place;
use crate::proxy::room::Room;
use crate::proxy::upload::Upload;

/// A connection to a backend over HTTP/2: a cheap handle. The connection is closed when the last one
/// is dropped.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Connection(Rc<Handle>);

#[derive(Debug)]
struct Handle {
    link: Rc<Link>,
    _task: Closing,
    _place: Rc<Place>,
}

impl Connection {
    /// Opens HTTP/2 on a socket, and waits until the backend has announced its settings. `room` is
    /// notified whenever there may be room for another request; `max_header` is the limit of a
    /// response's header, in octets.
    ///
    /// The task that drives the connection is owned by the handles.
    ///
    /// # Errors
    /// The backend does not speak HTTP/2, or ends the connection.
    pub(in crate::proxy) async fn open<T>(
        socket: T,
        place: Rc<Place>,
        room: &Rc<Room>,
        max_header: usize,
    ) -> Result<Self, Reason>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let link = Rc::new(Link::new(Rc::clone(room), STREAM_WINDOW));
        let memory = place.upload_memory().clone();
        let driver = Driver::new(socket, Rc::clone(&link), max_header, memory);
        let task = Closing(tokio::task::spawn_local(driver));
        std::future::poll_fn(|cx| link.poll_open(cx)).await?;
        Ok(Self(Rc::new(Handle { link, _task: task, _place: place })))
    }

    /// Sends a request as a stream of its own.
    pub(in crate::proxy) fn send(&self, request: Request<Upload>) -> Exchange {
        self.0.link.send(request)
    }

    /// How many requests can be sent now.
    pub(in crate::proxy) fn room(&self) -> usize {
        self.0.link.room()
    }

    /// Whether a body of this length can be sent, whatever becomes of other uploads.
    pub(in crate::proxy) fn takes_upload(&self, length: Option<u64>) -> bool {
        self.0.link.takes_upload(length)
    }

    /// How often something has arrived on it.
    pub(in crate::proxy) fn arrivals(&self) -> u64 {
        self.0.link.arrivals()
    }

    /// A request has timed out that was sent after this many [arrivals](Self::arrivals).
    pub(in crate::proxy) fn timed_out(&self, arrivals: u64) {
        self.0.link.timed_out(arrivals);
    }

    /// Whether a request has timed out, and nothing has arrived since.
    pub(in crate::proxy) fn is_silent(&self) -> bool {
        self.0.link.is_silent()
    }

    /// Requests that run.
    pub(in crate::proxy) fn streams(&self) -> usize {
        self.0.link.streams()
    }

    /// Requests that it takes at the same time.
    pub(in crate::proxy) fn max_streams(&self) -> usize {
        self.0.link.max_streams()
    }

    /// Requests that were sent on it.
    pub(in crate::proxy) fn opened(&self) -> u32 {
        self.0.link.opened()
    }

    /// Whether it takes no more requests.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.0.link.is_over()
    }

    /// After how many requests the backend has ended it in an orderly way while it was in use.
    pub(in crate::proxy) fn ended_after(&self) -> Option<u32> {
        self.0.link.ended_after()
    }
}
