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

    /// The trailers that the fields are.
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
mod tests {
    use http::{Method, Request};

    use super::{ConnectProtocol, HeaderList, RequestError, content_length};
    use crate::hpack::HpackDecoder;

    fn request(fields: &[(&str, &str)]) -> Result<Request<()>, RequestError> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0); // a literal field without indexing
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut list = HeaderList::new(16 << 10);
        HpackDecoder::default().decode(&block, |field| list.add(field)).expect("valid HPACK");
        list.into_request().map_err(|refused| refused.why)
    }

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/x?y=1"),
    ];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        GET.iter().chain(more).copied().collect()
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        GET.into_iter().filter(|(other, _)| *other != name).collect()
    }

    #[test]
    fn the_fields_of_a_request_make_its_method_uri_and_headers() {
        let request = request(&with(&[("accept", "a"), ("accept", "b"), ("te", "trailers")]));
        let request = request.expect("well-formed");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "https://a.example/x?y=1");
        assert_eq!(request.headers().get_all("accept").iter().count(), 2);
    }

    #[test]
    fn host_replaces_a_missing_authority() {
        let mut fields = without(":authority");
        fields.push(("host", "a.example"));
        let request = request(&fields).expect("well-formed");
        assert_eq!(request.uri(), "https://a.example/x?y=1");
    }

    #[test]
    fn a_websocket_is_an_extended_connect() {
        let mut fields = with(&[]);
        fields[0].1 = "CONNECT";
        assert!(request(&fields).is_err(), "a plain CONNECT has no path");
        fields.push((":protocol", "websocket"));
        let websocket = request(&fields).expect("well-formed");
        let protocol = websocket.extensions().get::<ConnectProtocol>().expect("a protocol");
        assert_eq!(protocol.as_str(), "websocket");
        let plain = [(":method", "CONNECT"), (":authority", "a.example:443")];
        assert_eq!(request(&plain).expect("well-formed").uri(), "a.example:443");
    }

    #[test]
    fn malformed_requests_are_recognized() {
        let late = [("accept", "a"), (":method", "GET")];
        for (what, fields) in [
            ("no method", without(":method")),
            ("no scheme", without(":scheme")),
            ("no path", without(":path")),
            ("two paths", with(&[(":path", "/")])),
            ("a pseudo-header field after regular fields", late.to_vec()),
            ("an unknown pseudo-header field", with(&[(":test", "1")])),
            ("a pseudo-header field of responses", with(&[(":status", "200")])),
            ("an upper-case name", with(&[("Accept", "a")])),
            ("connection", with(&[("connection", "close")])),
            ("keep-alive", with(&[("keep-alive", "1")])),
            ("proxy-connection", with(&[("proxy-connection", "close")])),
            ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
            ("upgrade", with(&[("upgrade", "h2c")])),
            ("te", with(&[("te", "gzip")])),
            ("a line feed in a value", with(&[("accept", "a\nb")])),
            ("a space before a value", with(&[("accept", " a")])),
            ("a protocol without CONNECT", with(&[(":protocol", "websocket")])),
        ] {
            let why = request(&fields).expect_err(what);
            assert!(why.is_malformed(), "{what}: {why}");
        }
        let empty_path = [GET[0], GET[1], GET[2], (":path", "")];
        assert!(request(&empty_path).expect_err("an empty path").is_malformed());
    }

    #[test]
    fn requests_that_are_invalid_without_being_malformed_are_refused() {
        let but = |name: &str, value: &'static str| {
            GET.map(|(other, old)| (other, if other == name { value } else { old })).to_vec()
        };
        let mut host = without(":authority");
        host.push(("host", "a:99999"));
        for (what, fields) in [
            ("a control character in a value", with(&[("accept", "a\u{1}b")])),
            ("a DEL in a value", with(&[("accept", "a\u{7f}b")])),
            ("a name that is not a token", with(&[("a(b", "1")])),
            ("a method that is not a token", but(":method", "G(T")),
            ("an authority of two names", but(":authority", "a,b")),
            ("an authority with a port beyond 16 bits", but(":authority", "a:99999")),
            ("an authority with an empty port", but(":authority", "a:")),
            ("an authority with user information", but(":authority", "me@a")),
            ("an empty authority", but(":authority", "")),
            ("an invalid host", host),
            ("an empty scheme", but(":scheme", "")),
            ("an unknown scheme", but(":scheme", "ftp")),
            ("an invalid scheme", but(":scheme", "ht tp")),
            ("a path with <", but(":path", "/x?y=<")),
            ("a path with a space", but(":path", "/x y")),
        ] {
            let why = request(&fields).expect_err(what);
            assert!(matches!(why, RequestError::Invalid(_)), "{what}: {why}");
        }
        let both = with(&[("accept", "a\u{1}b"), ("connection", "close")]);
        assert!(request(&both).expect_err("both").is_malformed(), "malformed takes precedence");
    }

    #[test]
    fn values_that_http_allows_are_accepted() {
        for value in ["a\tb", "\u{e9}", "", "~"] {
            let request = request(&with(&[("last-event-id", value)])).expect("well-formed");
            assert_eq!(request.headers()["last-event-id"].as_bytes(), value.as_bytes());
        }
    }

    #[test]
    fn a_header_list_above_the_limit_is_too_large() {
        let (name, value) = ("x".repeat(100), "y".repeat(100));
        let fields = vec![(name.as_str(), value.as_str()); 100];
        assert_eq!(request(&fields).err(), Some(RequestError::TooLarge));
    }

    #[test]
    fn content_length_is_one_number_in_digits() {
        for (lengths, expected) in [
            (&[][..], Ok(None)),
            (&["12"], Ok(Some(12))),
            (&["12", "12"], Err(true)),
            (&["+1"], Err(true)),
            (&[""], Err(true)),
            (&["99999999999999999999999"], Err(true)),
        ] {
            let mut headers = http::HeaderMap::new();
            for length in lengths {
                headers.append("content-length", length.parse().expect("a value"));
            }
            let length = content_length(&headers).map_err(|why| why.is_malformed());
            assert_eq!(length, expected, "{lengths:?}");
        }
    }
}
