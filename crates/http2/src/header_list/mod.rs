//! The header list of a request, and of its trailers (RFC 9113, section 8.3.1).
//!
//! Collects the decoded fields, and validates them. Knows nothing of the stream that they came on.

use std::fmt;
use std::ops::ControlFlow;

use http::header::{self, CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::CONNECTION_SPECIFIC;
use super::authority::is_authority;
use super::hpack::{FieldName, HeaderField, InvalidValue};
use super::protocol::ConnectProtocol;
use super::request_error::RequestError;

/// Decoding stops when a header list exceeds its limit by this factor. Below that, the client gets
/// a 431.
const MAX_DECODED_FACTOR: usize = 8;

/// The fields of a header block so far.
#[derive(Debug)]
pub(crate) struct HeaderList {
    pseudo: PseudoHeaders,
    headers: HeaderMap,
    size: usize,
    max_size: usize,
    // The first error. One that makes the request malformed replaces one that does not.
    error: Option<RequestError>,
}

#[derive(Debug, Default)]
struct PseudoHeaders {
    method: Option<HeaderValue>,
    scheme: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    path: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
}

/// The header of a request that is refused.
#[derive(Debug)]
pub(crate) struct RefusedHead {
    /// What is known of the request: its method, and the fields before the error.
    pub(crate) head: Request<()>,
    pub(crate) why: RequestError,
}

impl HeaderList {
    /// An empty list. `max_size` is SETTINGS_MAX_HEADER_LIST_SIZE, in octets.
    pub(crate) fn new(max_size: usize) -> Self {
        Self {
            pseudo: PseudoHeaders::default(),
            headers: HeaderMap::new(),
            size: 0,
            max_size,
            error: None,
        }
    }

    /// Adds a field; breaks if the list is far too large.
    pub(crate) fn add(&mut self, field: &HeaderField) -> ControlFlow<()> {
        self.size += field.size;
        if self.size > self.max_size * MAX_DECODED_FACTOR {
            return ControlFlow::Break(());
        }
        if self.size <= self.max_size
            && let Err(error) = self.put(field)
            && (self.error.is_none() || error.is_malformed())
        {
            self.error = Some(error);
        }
        ControlFlow::Continue(())
    }

    fn put(&mut self, field: &HeaderField) -> Result<(), RequestError> {
        let name = &field.name;
        let slot = match name {
            FieldName::Regular(name) => return self.put_regular(name, field),
            FieldName::Method => &mut self.pseudo.method,
            FieldName::Scheme => &mut self.pseudo.scheme,
            FieldName::Authority => &mut self.pseudo.authority,
            FieldName::Path => &mut self.pseudo.path,
            FieldName::Protocol => &mut self.pseudo.protocol,
            FieldName::Status | FieldName::Malformed { .. } => {
                let what = "a field name that HTTP/2 does not allow: upper-case letters, spaces, \
                            or an unknown pseudo-header field";
                return Err(RequestError::malformed(what));
            }
            FieldName::NoToken { .. } => {
                return Err(RequestError::invalid("a field name is not a token"));
            }
        };
        // Pseudo-header fields come once, and before all regular fields (section 8.3).
        if slot.is_some() || !self.headers.is_empty() {
            return Err(RequestError::malformed(format!(
                "{name} is repeated or follows regular fields"
            )));
        }
        *slot = Some(valid(name, field)?);
        Ok(())
    }

    fn put_regular(&mut self, name: &HeaderName, field: &HeaderField) -> Result<(), RequestError> {
        let value = valid(name, field)?;
        if CONNECTION_SPECIFIC.contains(name) {
            return Err(RequestError::malformed(format!("{name} is not allowed in HTTP/2")));
        }
        if *name == header::TE && value != "trailers" {
            return Err(RequestError::malformed("te may only be trailers"));
        }
        let added = self.headers.try_append(name, value);
        added.map(|_| ()).map_err(|_full| RequestError::TooLarge)
    }

    /// The request that the fields describe.
    ///
    /// # Errors
    /// The request is malformed, or it is refused for another reason.
    // Boxed: large, and rare.
    pub(crate) fn into_request(mut self) -> Result<Request<()>, Box<RefusedHead>> {
        let mut head = Request::new(());
        *head.version_mut() = Version::HTTP_2;
        let read = self.check().and_then(|()| self.pseudo.read(&mut head, &self.headers));
        *head.headers_mut() = self.headers;
        match read {
            Ok(()) => Ok(head),
            Err(why) => Err(Box::new(RefusedHead { head, why })),
        }
    }

    /// The fields as trailers.
    ///
    /// # Errors
    /// There is a pseudo-header field, a malformed field, or the list is too large.
    pub(crate) fn into_trailers(mut self) -> Result<HeaderMap, RequestError> {
        self.check()?;
        if !self.pseudo.is_empty() {
            return Err(RequestError::malformed("a pseudo-header field in trailers"));
        }
        Ok(self.headers)
    }

    fn check(&mut self) -> Result<(), RequestError> {
        match self.error.take() {
            Some(error) => Err(error),
            None if self.size > self.max_size => Err(RequestError::TooLarge),
            None => Ok(()),
        }
    }
}

/// The value of a field, if it is valid.
fn valid(name: &impl fmt::Display, field: &HeaderField) -> Result<HeaderValue, RequestError> {
    field.strict_value().cloned().map_err(|bad| match bad {
        InvalidValue::Malformed => RequestError::malformed(format!(
            "the value of {name} contains NUL or a line break, or begins or ends with a space"
        )),
        InvalidValue::Control => {
            RequestError::invalid(format!("the value of {name} contains a control character"))
        }
    })
}

impl PseudoHeaders {
    fn is_empty(&self) -> bool {
        let Self { method, scheme, authority, path, protocol } = self;
        [method, scheme, authority, path, protocol].into_iter().all(Option::is_none)
    }

    /// Sets the method, the target and the protocol of the request.
    fn read(&self, head: &mut Request<()>, headers: &HeaderMap) -> Result<(), RequestError> {
        let method =
            self.method.as_ref().ok_or_else(|| RequestError::malformed(":method is missing"))?;
        *head.method_mut() = Method::from_bytes(method.as_bytes())
            .map_err(|_no_token| RequestError::invalid(":method is not a valid method"))?;
        if let Some(protocol) = &self.protocol {
            if *head.method() != Method::CONNECT {
                // RFC 8441, section 4.
                return Err(RequestError::malformed(":protocol requires the method CONNECT"));
            }
            let protocol = protocol.to_str();
            let protocol = protocol.map_err(|_| RequestError::invalid(":protocol is not ASCII"))?;
            head.extensions_mut().insert(ConnectProtocol::new(protocol));
        }
        let is_plain_connect = *head.method() == Method::CONNECT && self.protocol.is_none();
        *head.uri_mut() = self.uri(is_plain_connect, headers)?;
        Ok(())
    }

    fn uri(&self, is_plain_connect: bool, headers: &HeaderMap) -> Result<Uri, RequestError> {
        let mut parts = http::uri::Parts::default();
        let host = headers.get(HOST).filter(|_| !is_plain_connect);
        parts.authority = self.authority(host)?;
        if is_plain_connect {
            // RFC 9113, section 8.5.
            if self.scheme.is_some() || self.path.is_some() {
                return Err(RequestError::malformed("CONNECT must not have :scheme or :path"));
            }
        } else {
            let scheme = self.scheme()?;
            parts.path_and_query = Some(self.path_and_query()?);
            // The `http` crate has no URI with a scheme and without an authority.
            parts.scheme = parts.authority.is_some().then_some(scheme);
        }
        Uri::from_parts(parts)
            .map_err(|_invalid| RequestError::invalid("the request target is invalid"))
    }

    /// Without `:authority`, `Host` replaces it (section 8.3.1).
    fn authority(&self, host: Option<&HeaderValue>) -> Result<Option<Authority>, RequestError> {
        let Some(authority) = self.authority.as_ref().or(host) else { return Ok(None) };
        let valid = Some(authority.as_bytes()).filter(|authority| is_authority(authority));
        let valid = valid.and_then(|authority| Authority::try_from(authority).ok());
        let name = if self.authority.is_some() { ":authority" } else { "host" };
        let what = || format!("{name} must be a host with an optional port from 0 to 65535");
        valid.map(Some).ok_or_else(|| RequestError::invalid(what()))
    }

    fn scheme(&self) -> Result<Scheme, RequestError> {
        let scheme =
            self.scheme.as_ref().ok_or_else(|| RequestError::malformed(":scheme is missing"))?;
        match scheme.as_bytes() {
            scheme if scheme.eq_ignore_ascii_case(b"https") => Ok(Scheme::HTTPS),
            scheme if scheme.eq_ignore_ascii_case(b"http") => Ok(Scheme::HTTP),
            _ => Err(RequestError::invalid(":scheme must be http or https")),
        }
    }

    fn path_and_query(&self) -> Result<PathAndQuery, RequestError> {
        let path = self.path.as_ref().filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| RequestError::malformed(":path is missing or empty"))?;
        PathAndQuery::try_from(path.as_bytes()).map_err(|_invalid| {
            RequestError::invalid(
                ":path contains a character that must be percent-encoded, such as <",
            )
        })
    }
}

/// The length that `content-length` announces.
///
/// # Errors
/// It is not a number, or it is repeated.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, RequestError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let is_digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    let length = length.to_str().ok().filter(|_| is_digits && lengths.next().is_none());
    let length = length.and_then(|length| length.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| RequestError::malformed("content-length is not a number, or is repeated"))
}

#[cfg(test)]
mod tests;
