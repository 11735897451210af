//! What an auth backend says of a request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// The verdict of an auth backend. Cheap to clone: all requests with the same question share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx: the request is allowed. Has the header fields of the response that the settings name.
    Allowed(Arc<HeaderMap>),
    /// 401, 403 or a redirect: the response for the client.
    Refused(Arc<AuthResponse>),
    /// Any other status, or no response in time; the text says which.
    NotNow(&'static str),
}

/// The response with which an auth backend refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthResponse {
    /// 401, 403, or the status of a redirect.
    pub status: StatusCode,
    /// Its header fields, without hop-by-hop fields and without `Set-Cookie`: several requests with the same question
    /// may get it.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}
