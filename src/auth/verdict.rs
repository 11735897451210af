//! What an auth backend says of a request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// The answer of an auth backend. Cheap to clone: it is shared by all who asked the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx: the request is allowed. The header fields of the response that the settings name.
    Allowed(Arc<HeaderMap>),
    /// 401, 403 or a redirect: the response for the client.
    Refused(Arc<AuthResponse>),
    /// Anything else, or nothing in time; the text says which.
    NotNow(&'static str),
}

/// The response with which an auth backend refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthResponse {
    /// 401, 403, or the status of a redirect.
    pub status: StatusCode,
    /// Its header fields, without those of the connection and without `Set-Cookie`: it may be sent to several
    /// who asked the same.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}
