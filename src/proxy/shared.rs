//! A connection to a backend over HTTP/2, with many requests on it.

use std::rc::Rc;
use std::time::Duration;

use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connect::Socket;
use super::connection::{Closing, Sent};
use super::facts::Place;
use super::upload::Upload;

/// Streams on one connection: what RFC 9113, section 6.5.2, wants every server to take.
const MAX_STREAMS: usize = 100;
/// What a backend may send on one stream, and on all, before it must wait.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// While requests run, a PING is sent so often; unanswered, it ends the connection after so long.
const PING: Duration = Duration::from_secs(20);

/// A connection that HTTP/2 is spoken on: a cheap handle, held by each of its requests. It is closed
/// when the last one is dropped.
#[derive(Clone, Debug)]
pub(super) struct SharedConnection(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: http2::SendRequest<Upload>,
    _task: Closing,
    _place: Place,
}

impl SharedConnection {
    /// Begins to speak. The task that drives the connection is owned by what is returned.
    pub(super) async fn speak(socket: Socket, place: Place) -> hyper::Result<Self> {
        let (sender, connection) = http2::Builder::new(OnThisThread)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(socket))
            .await?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a backend failed");
            }
        });
        Ok(Self(Rc::new(Inner { sender, _task: Closing(task), _place: place })))
    }

    /// Sends a request as a stream of its own.
    pub(super) fn send(&self, request: Request<Upload>) -> impl Future<Output = Sent> + use<> {
        self.0.sender.clone().try_send_request(request)
    }

    /// Whether one request more can be sent.
    pub(super) fn has_room(&self) -> bool {
        !self.is_closed() && self.requests() < MAX_STREAMS
    }

    /// Whether no request can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.sender.is_closed()
    }

    /// Requests that run, where the pool alone holds one handle more.
    pub(super) fn requests(&self) -> usize {
        Rc::strong_count(&self.0) - 1
    }
}

/// hyper's own tasks end with their connection.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F> hyper::rt::Executor<F> for OnThisThread
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(future));
    }
}
