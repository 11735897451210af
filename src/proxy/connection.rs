//! A connection to a backend over HTTP/1.1, with at most one request on it.

use std::future::poll_fn;
use std::pin::pin;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use super::connect::Socket;
use super::facts::Place;
use super::upload::Upload;
use super::wire::{Notes, Wire};
use crate::server::interim::Interim;

/// What is read at once of a response. More costs memory and gains nothing (hyper's own 408 KiB took
/// as much CPU for 1 MiB); 8 KiB took two thirds more.
const MAX_BUFFER: usize = 64 << 10;

/// What a status line, and an interim response before it, may take beside the header, in octets.
const MAX_STATUS_LINE: usize = 8 << 10;

/// What became of a request: what was not begun comes back with the error.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// A connection that HTTP/1.1 is spoken on. Dropped, it is closed at once, whatever runs on it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Upload>,
    notes: Notes,
    _task: Closing,
    place: Place,
}

impl Connection {
    /// Begins to speak. The task that drives the connection is owned by what is returned. `max_header`
    /// is what the header of a response may take, in octets.
    pub(super) async fn speak(
        socket: Socket,
        place: Place,
        max_header: usize,
    ) -> hyper::Result<Self> {
        let max_head = max_header + MAX_STATUS_LINE;
        let (wire, notes) = Wire::new(socket, max_head);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER.max(max_head))
            // RFC 9112: a proxy removes these blanks (section 5.1), and unfolds lines (section 5.2).
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(wire))
            .await?;
        let task = tokio::task::spawn_local(async move {
            // Who waits for an answer is told by hyper; nobody waits on an idle connection.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a backend failed");
            }
        });
        Ok(Self { sender, notes, _task: Closing(task), place })
    }

    /// Sends a request. What comes before its response goes to `interim`.
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
        interim: &Interim,
    ) -> impl Future<Output = Sent> + use<> {
        self.notes.expect_response();
        let (response, notes) = (self.sender.try_send_request(request), self.notes.clone());
        let interim = interim.clone();
        async move {
            let mut response = pin!(response);
            let mut sent = poll_fn(|cx| {
                let polled = response.as_mut().poll(cx);
                notes.pass_on_interim(&interim, cx);
                polled
            })
            .await;
            if let Ok(response) = &mut sent {
                notes.complete_head(response);
            }
            sent
        }
    }

    /// Nothing is sent on it any more; the rest of it is somebody else's.
    pub(super) fn into_place(self) -> Place {
        self.place
    }

    /// Whether the next request can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether no request can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.notes.is_deaf()
    }
}

/// Ends the task of a connection.
#[derive(Debug)]
pub(super) struct Closing(pub(super) JoinHandle<()>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
