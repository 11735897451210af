//! Who responds to requests.

use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use ssegate_http2::RequestError;

use super::body_error::BodyError;
use super::carrier::FramedBody;
use super::connection::ConnectionState;
use super::request_body::RequestBody;

/// Responds to requests.
pub trait Handler: Clone + 'static {
    /// The body of its responses.
    type Body: Body<Data = Bytes, Error = BodyError> + FramedBody + Unpin + 'static;

    /// Responds to one request. Infallible: a failure becomes an error response.
    fn handle(
        &self,
        request: Request<RequestBody>,
        connection: Rc<ConnectionState>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Returns the error response to a request that was rejected before it could be handled. `head`
    /// holds the method and the fields that could be read.
    fn refuse(
        &self,
        head: &Request<()>,
        why: RequestError,
        connection: &ConnectionState,
    ) -> Response<Self::Body>;

    /// Called after a request could not be read and was responded to with this status.
    fn note_unreadable(&self, status: StatusCode, why: &'static str, connection: &ConnectionState);
}
