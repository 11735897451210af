//! The head of a request: from fields to what a handler is given (RFC 9113, section 8.3.1).

use std::ops::ControlFlow;

use http::header::{self, CONTENT_LENGTH};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use hyper::ext::Protocol;

use super::hpack::{Field, Name};

/// A list so many times longer than allowed is not even read to its end, to be answered with 431.
const WAY_TOO_LARGE: usize = 8;

/// What a header block has said so far.
#[derive(Debug)]
pub(super) struct HeadDraft {
    pseudo: Pseudo,
    headers: HeaderMap,
    size: usize,
    max_size: usize,
    is_malformed: bool,
}

#[derive(Debug, Default)]
struct Pseudo {
    method: Option<HeaderValue>,
    scheme: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    path: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
}

/// Why a block is no head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Section 8.1.1.
    Malformed,
    /// More than SETTINGS_MAX_HEADER_LIST_SIZE.
    TooLarge,
}

/// Fields that speak of a connection, which HTTP/2 does not have in it (section 8.2.2).
pub(super) const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl HeadDraft {
    /// A draft of at most so many bytes, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub(super) fn new(max_size: usize) -> Self {
        Self {
            pseudo: Pseudo::default(),
            headers: HeaderMap::new(),
            size: 0,
            max_size,
            is_malformed: false,
        }
    }

    /// Takes a field; breaks off when there is far too much of it.
    pub(super) fn take(&mut self, field: &Field) -> ControlFlow<()> {
        self.size += field.size;
        if self.size > self.max_size * WAY_TOO_LARGE {
            return ControlFlow::Break(());
        }
        if self.size <= self.max_size && self.put(field).is_none() {
            self.is_malformed = true;
        }
        ControlFlow::Continue(())
    }

    fn put(&mut self, field: &Field) -> Option<()> {
        let value = field.value.as_ref().filter(|_| !field.is_padded)?;
        let place = match &field.name {
            Name::Regular(name) => {
                let is_fit = !CONNECTION_SPECIFIC.contains(name)
                    && (*name != header::TE || value == "trailers");
                let added = is_fit.then(|| self.headers.try_append(name, value.clone()))?;
                return added.is_ok().then_some(());
            }
            Name::Method => &mut self.pseudo.method,
            Name::Scheme => &mut self.pseudo.scheme,
            Name::Authority => &mut self.pseudo.authority,
            Name::Path => &mut self.pseudo.path,
            Name::Protocol => &mut self.pseudo.protocol,
            Name::Status | Name::Malformed { .. } => return None,
        };
        // Once, and before all others (section 8.3).
        let is_fit = place.is_none() && self.headers.is_empty();
        *place = Some(value.clone());
        is_fit.then_some(())
    }

    /// The request that the fields ask for.
    ///
    /// # Errors
    /// They ask for none.
    pub(super) fn into_request(self) -> Result<Request<()>, Unfit> {
        self.check()?;
        let mut request = Request::new(());
        let method = self.pseudo.method.as_ref().ok_or(Unfit::Malformed)?;
        *request.method_mut() = Method::from_bytes(method.as_bytes()).or(Err(Unfit::Malformed))?;
        *request.version_mut() = Version::HTTP_2;
        if let Some(protocol) = &self.pseudo.protocol {
            // RFC 8441, section 4: only a CONNECT has one.
            let protocol = protocol.to_str().or(Err(Unfit::Malformed))?;
            if *request.method() != Method::CONNECT {
                return Err(Unfit::Malformed);
            }
            request.extensions_mut().insert(Protocol::from(protocol));
        }
        let is_plain_connect =
            *request.method() == Method::CONNECT && self.pseudo.protocol.is_none();
        let host = self.headers.get(header::HOST);
        *request.uri_mut() = self.pseudo.uri(is_plain_connect, host).ok_or(Unfit::Malformed)?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }

    /// The fields behind the body of a request: none of them speaks of the request itself.
    ///
    /// # Errors
    /// One does, or they are too large.
    pub(super) fn into_trailers(self) -> Result<HeaderMap, Unfit> {
        self.check()?;
        if !self.pseudo.is_empty() {
            return Err(Unfit::Malformed);
        }
        Ok(self.headers)
    }

    fn check(&self) -> Result<(), Unfit> {
        if self.is_malformed {
            return Err(Unfit::Malformed);
        }
        if self.size > self.max_size {
            return Err(Unfit::TooLarge);
        }
        Ok(())
    }
}

impl Pseudo {
    fn is_empty(&self) -> bool {
        let Self { method, scheme, authority, path, protocol } = self;
        [method, scheme, authority, path, protocol].into_iter().all(Option::is_none)
    }

    fn uri(&self, is_plain_connect: bool, host: Option<&HeaderValue>) -> Option<Uri> {
        let mut parts = http::uri::Parts::default();
        if let Some(authority) = self.authority.as_ref().filter(|authority| !authority.is_empty()) {
            parts.authority = Some(Authority::try_from(authority.as_bytes()).ok()?);
        }
        if is_plain_connect {
            // Section 8.5.
            let has_none = self.scheme.is_none() && self.path.is_none();
            return has_none.then(|| Uri::from_parts(parts).ok()).flatten();
        }
        let scheme = self.scheme.as_ref().filter(|scheme| !scheme.is_empty())?;
        let scheme = Scheme::try_from(scheme.as_bytes()).ok()?;
        let path = self.path.as_ref().filter(|path| !path.is_empty())?;
        parts.path_and_query = Some(PathAndQuery::try_from(path.as_bytes()).ok()?);
        // `http` has no URI with a scheme and without an authority; that one is then in `Host`.
        let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        parts.authority = parts.authority.or(host);
        parts.scheme = parts.authority.is_some().then_some(scheme);
        Uri::from_parts(parts).ok()
    }
}

/// The length that a client has announced.
///
/// # Errors
/// It has announced none that can be read, or several.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Unfit> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let is_digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    let length = length.to_str().ok().filter(|_| is_digits && lengths.next().is_none());
    length.and_then(|length| length.parse().ok()).map(Some).ok_or(Unfit::Malformed)
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};
    use hyper::ext::Protocol;

    use super::{HeadDraft, Unfit, content_length};
    use crate::server::http2::hpack::Decoder;

    fn request(fields: &[(&str, &str)]) -> Result<Request<()>, Unfit> {
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
        draft.into_request()
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
            ("an empty scheme", vec![GET[0], (":scheme", ""), GET[2], GET[3]]),
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
            assert_eq!(request(&fields).err(), Some(Unfit::Malformed), "{what}");
        }
        let empty_path = [GET[0], GET[1], GET[2], (":path", "")];
        assert_eq!(request(&empty_path).err(), Some(Unfit::Malformed));
    }

    #[test]
    fn a_list_that_is_too_large_is_told_so() {
        let (name, value) = ("x".repeat(100), "y".repeat(100));
        let fields = vec![(name.as_str(), value.as_str()); 100];
        assert_eq!(request(&fields).err(), Some(Unfit::TooLarge));
    }

    #[test]
    fn a_length_is_announced_once_and_in_digits() {
        for (lengths, expected) in [
            (&[][..], Ok(None)),
            (&["12"], Ok(Some(12))),
            (&["12", "12"], Err(Unfit::Malformed)),
            (&["+1"], Err(Unfit::Malformed)),
            (&[""], Err(Unfit::Malformed)),
            (&["99999999999999999999999"], Err(Unfit::Malformed)),
        ] {
            let mut headers = http::HeaderMap::new();
            for length in lengths {
                headers.append("content-length", length.parse().expect("a value"));
            }
            assert_eq!(content_length(&headers), expected, "{lengths:?}");
        }
    }
}
