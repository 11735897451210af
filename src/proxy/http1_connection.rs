//! An HTTP/1.1 connection to a backend, driven by hyper. Carries one request at a time.

use std::future::poll_fn;
use std::pin::pin;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;

use super::abort_on_drop::AbortOnDrop;
use super::connect::BackendSocket;
use super::http1_io::{Http1Io, Http1IoHandle};
use super::recorder::ConnectionSlot;
use super::upload::Upload;
use crate::server::interim::Interim;

/// The maximum size of hyper's read buffer. For a response of 1 MiB, hyper's default of 408 KiB
/// took the same CPU time, and 8 KiB two thirds more.
const MAX_BUFFER: usize = 64 << 10;

/// What the status line and interim responses may take beside the header, in octets.
const MAX_STATUS_LINE: usize = 8 << 10;

/// The outcome of a request. The error contains the request if nothing of it was sent.
pub(super) type SendResult = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// An HTTP/1.1 connection. Dropping it closes it at once, even during a request.
#[derive(Debug)]
pub(super) struct Http1Connection {
    sender: http1::SendRequest<Upload>,
    io_handle: Http1IoHandle,
    _task: AbortOnDrop,
    slot: ConnectionSlot,
}

impl Http1Connection {
    /// Starts HTTP/1.1 on a socket. The returned connection owns the task that drives it.
    /// `max_header` limits the header of a response, in octets.
    pub(super) async fn handshake(
        socket: BackendSocket,
        slot: ConnectionSlot,
        max_header: usize,
    ) -> hyper::Result<Self> {
        let max_head = max_header + MAX_STATUS_LINE;
        let (io, io_handle) = Http1Io::new(socket, max_head);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER.max(max_head))
            // RFC 9112: a proxy removes whitespace before the colon (section 5.1) and replaces
            // obsolete line folding (section 5.2).
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(io))
            .await?;
        let task = tokio::task::spawn_local(async move {
            // hyper reports the error to a pending request too; this line is for idle connections.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a backend failed");
            }
        });
        Ok(Self { sender, io_handle, _task: AbortOnDrop(task), slot })
    }

    /// Sends a request. Interim responses go to `interim`.
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
        interim: &Interim,
    ) -> impl Future<Output = SendResult> + use<> {
        self.io_handle.expect_response();
        let (response, io_handle) = (self.sender.try_send_request(request), self.io_handle.clone());
        let interim = interim.clone();
        async move {
            let mut response = pin!(response);
            let mut sent = poll_fn(|cx| {
                let polled = response.as_mut().poll(cx);
                io_handle.forward_interim(&interim, cx);
                polled
            })
            .await;
            if let Ok(response) = &mut sent {
                io_handle.restore_head(response);
            }
            sent
        }
    }

    /// Gives up the connection after an upgrade, and returns its slot.
    pub(super) fn into_slot(self) -> ConnectionSlot {
        self.slot
    }

    /// Whether a request can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether no further request can be sent.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.io_handle.is_write_closed()
    }
}
