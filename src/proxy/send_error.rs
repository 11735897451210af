//! A request that an upstream did not respond to, and whether the next one may get it.

use http::Request;

use super::error::Failure;
use super::upload::Upload;

/// A failed request. Contains the request if it may be sent to another upstream.
#[derive(Debug)]
pub(super) struct SendError {
    pub(super) failure: Failure,
    pub(super) unsent: Option<Box<Request<Upload>>>,
}

impl SendError {
    /// A request that the backend has not processed.
    pub(super) fn unsent(failure: Failure, request: Request<Upload>) -> Self {
        Self { failure, unsent: Some(Box::new(request)) }
    }
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        Self { failure, unsent: None }
    }
}
