//! The body of a request on its way to the backend.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::server::connection::BodyError;
use crate::server::request_body::RequestBody;

/// What the client sends, as it comes. Where it breaks, the request to the backend breaks too.
#[derive(Debug)]
pub(super) struct Upload {
    body: RequestBody,
}

impl Upload {
    pub(super) fn new(body: RequestBody) -> Self {
        Self { body }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
