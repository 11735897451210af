//! The head of a request: from fields to what a handler is given (RFC 9113, section 8.3.1).

use std::fmt;
use std::ops::ControlFlow;

use http::header::{self, CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use hyper::ext::Protocol;

use super::CONNECTION_SPECIFIC;
use super::authority::is_authority;
use super::hpack::{BadValue, Field, Name};
use crate::server::request_error::RequestError;

/// A list so many times longer than allowed is not even read to its end, to be answered with 431.
const WAY_TOO_LARGE: usize = 8;

/// What a header block has said so far.
#[derive(Debug)]
pub(super) struct HeadDraft {
    pseudo: Pseudo,
    headers: HeaderMap,
    size: usize,
    max_size: usize,
    // What is wrong with it; that it is malformed outweighs the rest.
    fault: Option<RequestError>,
}

#[derive(Debug, Default)]
struct Pseudo {
    method: Option<HeaderValue>,
    scheme: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    path: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
}

/// A head that is none of a request.
#[derive(Debug)]
pub(super) struct RefusedHead {
    /// What can be said of the request: its method, and the fields that were read.
    pub(super) head: Request<()>,
    pub(super) why: RequestError,
}

impl HeadDraft {
    /// A draft of at most so many bytes, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub(super) fn new(max_size: usize) -> Self {
        Self {
            pseudo: Pseudo::default(),
            headers: HeaderMap::new(),
            size: 0,
            max_size,
            fault: None,
        }
    }

    /// Takes a field; breaks off when there is far too much of it.
    pub(super) fn take(&mut self, field: &Field) -> ControlFlow<()> {
        self.size += field.size;
        if self.size > self.max_size * WAY_TOO_LARGE {
            return ControlFlow::Break(());
        }
        if self.size <= self.max_size
            && let Err(fault) = self.put(field)
            && (self.fault.is_none() || fault.is_malformed())
        {
            self.fault = Some(fault);
        }
        ControlFlow::Continue(())
    }

    fn put(&mut self, field: &Field) -> Result<(), RequestError> {
        let name = &field.name;
        let place = match name {
            Name::Regular(name) => return self.put_regular(name, field),
            Name::Method => &mut self.pseudo.method,
            Name::Scheme => &mut self.pseudo.scheme,
            Name::Authority => &mut self.pseudo.authority,
            Name::Path => &mut self.pseudo.path,
            Name::Protocol => &mut self.pseudo.protocol,
            Name::Status | Name::Malformed { .. } => {
                let what = "a field has a name that HTTP/2 does not allow: upper-case letters, \
                            spaces, or a pseudo-header field that is not one of a request";
                return Err(RequestError::malformed(what));
            }
            Name::NoToken { .. } => {
                return Err(RequestError::invalid("a field has a name that is no token"));
            }
        };
        // Once, and before all others (section 8.3).
        if place.is_some() || !self.headers.is_empty() {
            return Err(RequestError::malformed(format!(
                "{name} is there twice, or behind other fields"
            )));
        }
        *place = Some(valid(name, field)?);
        Ok(())
    }

    fn put_regular(&mut self, name: &HeaderName, field: &Field) -> Result<(), RequestError> {
        let value = valid(name, field)?;
        if CONNECTION_SPECIFIC.contains(name) {
            return Err(RequestError::malformed(format!("{name} is a field of HTTP/1.1 only")));
        }
        if *name == header::TE && value != "trailers" {
            return Err(RequestError::malformed("te says more than trailers"));
        }
        let added = self.headers.try_append(name, value);
        added.map(|_| ()).map_err(|_full| RequestError::TooLarge)
    }

    /// The request that the fields ask for.
    ///
    /// # Errors
    /// They ask for none.
    // Boxed: it is large, and hardly ever there.
    pub(super) fn into_request(mut self) -> Result<Request<()>, Box<RefusedHead>> {
        let mut head = Request::new(());
        *head.version_mut() = Version::HTTP_2;
        let read = self.check().and_then(|()| self.pseudo.read(&mut head, &self.headers));
        *head.headers_mut() = self.headers;
        match read {
            Ok(()) => Ok(head),
            Err(why) => Err(Box::new(RefusedHead { head, why })),
        }
    }

    /// The fields behind the body of a request: none of them speaks of the request itself.
    ///
    /// # Errors
    /// One does, or they are too large.
    pub(super) fn into_trailers(mut self) -> Result<HeaderMap, RequestError> {
        self.check()?;
        if !self.pseudo.is_empty() {
            return Err(RequestError::malformed("a pseudo-header field stands behind the body"));
        }
        Ok(self.headers)
    }

    fn check(&mut self) -> Result<(), RequestError> {
        match self.fault.take() {
            Some(fault) => Err(fault),
            None if self.size > self.max_size => Err(RequestError::TooLarge),
            None => Ok(()),
        }
    }
}

/// The value of a field, unless it is none.
fn valid(name: &impl fmt::Display, field: &Field) -> Result<HeaderValue, RequestError> {
    field.strict_value().cloned().map_err(|bad| match bad {
        BadValue::Malformed => RequestError::malformed(format!(
            "the value of {name} has a NUL or a line break in it, or a space at an end"
        )),
        BadValue::Control => {
            RequestError::invalid(format!("the value of {name} has a control character in it"))
        }
    })
}

impl Pseudo {
    fn is_empty(&self) -> bool {
        let Self { method, scheme, authority, path, protocol } = self;
        [method, scheme, authority, path, protocol].into_iter().all(Option::is_none)
    }

    /// Puts method, target and protocol into the head.
    fn read(&self, head: &mut Request<()>, headers: &HeaderMap) -> Result<(), RequestError> {
        let method =
            self.method.as_ref().ok_or_else(|| RequestError::malformed("there is no :method"))?;
        *head.method_mut() = Method::from_bytes(method.as_bytes())
            .map_err(|_no_token| RequestError::invalid(":method is no method"))?;
        if let Some(protocol) = &self.protocol {
            if *head.method() != Method::CONNECT {
                // RFC 8441, section 4.
                return Err(RequestError::malformed(
                    "there is a :protocol, and the method is not CONNECT",
                ));
            }
            let protocol = protocol.to_str();
            let protocol = protocol.map_err(|_| RequestError::invalid(":protocol is no text"))?;
            head.extensions_mut().insert(Protocol::from(protocol));
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
            // Section 8.5.
            if self.scheme.is_some() || self.path.is_some() {
                return Err(RequestError::malformed("CONNECT has a :scheme or a :path"));
            }
        } else {
            let scheme = self.scheme()?;
            parts.path_and_query = Some(self.path_and_query()?);
            // `http` has no URI with a scheme and without an authority.
            parts.scheme = parts.authority.is_some().then_some(scheme);
        }
        Uri::from_parts(parts).map_err(|_invalid| RequestError::invalid("it has no target"))
    }

    /// Section 8.3.1: where there is no `:authority`, `Host` says it, if anything does.
    fn authority(&self, host: Option<&HeaderValue>) -> Result<Option<Authority>, RequestError> {
        let Some(authority) = self.authority.as_ref().or(host) else { return Ok(None) };
        let valid = Some(authority.as_bytes()).filter(|authority| is_authority(authority));
        let valid = valid.and_then(|authority| Authority::try_from(authority).ok());
        let name = if self.authority.is_some() { ":authority" } else { "host" };
        let what = || format!("{name} is no host, or has no port after the colon");
        valid.map(Some).ok_or_else(|| RequestError::invalid(what()))
    }

    fn scheme(&self) -> Result<Scheme, RequestError> {
        let scheme =
            self.scheme.as_ref().ok_or_else(|| RequestError::malformed("there is no :scheme"))?;
        match scheme.as_bytes() {
            scheme if scheme.eq_ignore_ascii_case(b"https") => Ok(Scheme::HTTPS),
            scheme if scheme.eq_ignore_ascii_case(b"http") => Ok(Scheme::HTTP),
            _ => Err(RequestError::invalid(":scheme is neither http nor https")),
        }
    }

    fn path_and_query(&self) -> Result<PathAndQuery, RequestError> {
        let path = self.path.as_ref().filter(|path| !path.is_empty());
        let path =
            path.ok_or_else(|| RequestError::malformed("there is no :path, or an empty one"))?;
        PathAndQuery::try_from(path.as_bytes()).map_err(|_invalid| {
            RequestError::invalid(":path has a character that must be percent-encoded, such as <")
        })
    }
}

/// The length that a client has announced.
///
/// # Errors
/// It has announced none that can be read, or several.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, RequestError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let is_digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    let length = length.to_str().ok().filter(|_| is_digits && lengths.next().is_none());
    let length = length.and_then(|length| length.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| RequestError::malformed("content-length is no number, or there are several"))
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};
    use hyper::ext::Protocol;

    use super::{HeadDraft, RequestError, content_length};
    use crate::server::http2::hpack::Decoder;

    fn request(fields: &[(&str, &str)]) -> Result<Request<()>, RequestError> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0); // a literal field
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut draft = HeadDraft::new(16 << 10);
        Decoder::default().decode(&block, |field| draft.take(field)).expect("valid HPACK");
        draft.into_request().map_err(|refused| refused.why)
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
    fn a_request_is_what_its_fields_say() {
        let request = request(&with(&[("accept", "a"), ("accept", "b"), ("te", "trailers")]));
        let request = request.expect("well-formed");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "https://a.example/x?y=1");
        assert_eq!(request.headers().get_all("accept").iter().count(), 2);
    }

    #[test]
    fn a_host_may_stand_in_for_the_authority() {
        let mut fields = without(":authority");
        fields.push(("host", "a.example"));
        let request = request(&fields).expect("well-formed");
        assert_eq!(request.uri(), "https://a.example/x?y=1");
    }

    #[test]
    fn a_websocket_asks_by_an_extended_connect() {
        let mut fields = with(&[]);
        fields[0].1 = "CONNECT";
        assert!(request(&fields).is_err(), "a plain CONNECT has no path");
        fields.push((":protocol", "websocket"));
        let asked = request(&fields).expect("well-formed");
        let protocol = asked.extensions().get::<Protocol>().expect("a protocol");
        assert_eq!(protocol.as_str(), "websocket");
        let plain = [(":method", "CONNECT"), (":authority", "a.example:443")];
        assert_eq!(request(&plain).expect("well-formed").uri(), "a.example:443");
    }

    #[test]
    fn what_is_malformed_is_no_request() {
        let late = [("accept", "a"), (":method", "GET")];
        for (what, fields) in [
            ("no method", without(":method")),
            ("no scheme", without(":scheme")),
            ("no path", without(":path")),
            ("two paths", with(&[(":path", "/")])),
            ("a pseudo-header behind others", late.to_vec()),
            ("an unknown pseudo-header", with(&[(":test", "1")])),
            ("a response's pseudo-header", with(&[(":status", "200")])),
            ("an upper case name", with(&[("Accept", "a")])),
            ("connection", with(&[("connection", "close")])),
            ("keep-alive", with(&[("keep-alive", "1")])),
            ("proxy-connection", with(&[("proxy-connection", "close")])),
            ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
            ("upgrade", with(&[("upgrade", "h2c")])),
            ("te", with(&[("te", "gzip")])),
            ("a line feed in a value", with(&[("accept", "a\nb")])),
            ("a blank before a value", with(&[("accept", " a")])),
            ("a protocol without CONNECT", with(&[(":protocol", "websocket")])),
        ] {
            let why = request(&fields).expect_err(what);
            assert!(why.is_malformed(), "{what}: {why}");
        }
        let empty_path = [GET[0], GET[1], GET[2], (":path", "")];
        assert!(request(&empty_path).expect_err("an empty path").is_malformed());
    }

    #[test]
    fn what_is_not_malformed_and_yet_no_request_is_refused() {
        let but = |name: &str, value: &'static str| {
            GET.map(|(other, old)| (other, if other == name { value } else { old })).to_vec()
        };
        let mut host = without(":authority");
        host.push(("host", "a:99999"));
        for (what, fields) in [
            ("a control character in a value", with(&[("accept", "a\u{1}b")])),
            ("a DEL in a value", with(&[("accept", "a\u{7f}b")])),
            ("a name that is no token", with(&[("a(b", "1")])),
            ("a method that is no token", but(":method", "G(T")),
            ("an authority of two names", but(":authority", "a,b")),
            ("an authority with a port beyond 16 bits", but(":authority", "a:99999")),
            ("an authority with an empty port", but(":authority", "a:")),
            ("an authority with a user", but(":authority", "me@a")),
            ("an empty authority", but(":authority", "")),
            ("a host that is none", host),
            ("an empty scheme", but(":scheme", "")),
            ("a foreign scheme", but(":scheme", "ftp")),
            ("a scheme that is none", but(":scheme", "ht tp")),
            ("a path with <", but(":path", "/x?y=<")),
            ("a path with a space", but(":path", "/x y")),
        ] {
            let why = request(&fields).expect_err(what);
            assert!(matches!(why, RequestError::Invalid(_)), "{what}: {why}");
        }
        let both = with(&[("accept", "a\u{1}b"), ("connection", "close")]);
        assert!(request(&both).expect_err("both").is_malformed(), "that outweighs the other");
    }

    #[test]
    fn values_that_http_allows_pass() {
        for value in ["a\tb", "\u{e9}", "", "~"] {
            let request = request(&with(&[("last-event-id", value)])).expect("well-formed");
            assert_eq!(request.headers()["last-event-id"].as_bytes(), value.as_bytes());
        }
    }

    #[test]
    fn a_list_that_is_too_large_is_told_so() {
        let (name, value) = ("x".repeat(100), "y".repeat(100));
        let fields = vec![(name.as_str(), value.as_str()); 100];
        assert_eq!(request(&fields).err(), Some(RequestError::TooLarge));
    }

    #[test]
    fn a_length_is_announced_once_and_in_digits() {
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
