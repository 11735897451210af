//! The protocol of an extended CONNECT.

/// The `:protocol` of an extended CONNECT request (RFC 8441, section 4), such as `websocket`: an
/// extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectProtocol(Box<str>);

impl ConnectProtocol {
    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name, as the client sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
