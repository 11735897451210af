//! Builds response heads and trailers from decoded fields (RFC 9113, section 8.3.2).

use http::header::{self, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, Response, StatusCode, Version};
use ssegate_http2::CONNECTION_SPECIFIC;
use ssegate_http2::hpack::{FieldName, HeaderField};

/// What SETTINGS_MAX_HEADER_LIST_SIZE counts per field beside its name and value, in octets (RFC
/// 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Collects the fields of a header block. Fields over the limit are counted and dropped.
#[derive(Debug)]
pub(super) struct ResponseHeadBuilder {
    status: Option<StatusCode>,
    headers: HeaderMap,
    size: usize,
    max_size: usize,
    fault: Option<&'static str>,
}

/// Why a header block is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Malformed (RFC 9113, section 8.1.1).
    Malformed(&'static str),
    /// Its fields exceed the limit.
    TooLarge,
}

impl ResponseHeadBuilder {
    /// An empty head. `max_size` limits the regular fields in octets: name, value and 32 for each.
    pub(super) fn new(max_size: usize) -> Self {
        Self { status: None, headers: HeaderMap::new(), size: 0, max_size, fault: None }
    }

    /// Adds a field. An invalid one makes the block malformed.
    pub(super) fn add(&mut self, field: &HeaderField) {
        if let Err(fault) = self.put(field) {
            self.fault.get_or_insert(fault);
        }
    }

    // Whitespace around a value is malformed too (section 8.2.1). It is trimmed instead, as over
    // HTTP/1.1: the same application may be served over both.
    fn put(&mut self, field: &HeaderField) -> Result<(), &'static str> {
        let invalid = "an invalid octet in a field value";
        let value = field.value.as_ref().or(Err(invalid))?;
        match &field.name {
            FieldName::Regular(name) if CONNECTION_SPECIFIC.contains(name) => {
                Err("a connection-specific field")
            }
            FieldName::Regular(name) => {
                self.size = self.size.saturating_add(field.size);
                if self.size <= self.max_size
                    && self.headers.try_append(name, value.clone()).is_err()
                {
                    self.size = usize::MAX;
                }
                Ok(())
            }
            FieldName::Status if self.status.is_some() => Err("two :status pseudo-headers"),
            FieldName::Status if !self.headers.is_empty() => Err(":status after regular fields"),
            FieldName::Status => {
                let status = StatusCode::from_bytes(value.as_bytes());
                self.status = Some(status.map_err(|_| "an invalid :status")?);
                Ok(())
            }
            FieldName::Malformed { .. } | FieldName::NoToken { .. } => Err("an invalid field name"),
            FieldName::Method
            | FieldName::Scheme
            | FieldName::Authority
            | FieldName::Path
            | FieldName::Protocol => Err("a request pseudo-header"),
        }
    }

    /// Returns the head of a response.
    ///
    /// # Errors
    /// The fields are malformed or too large.
    pub(super) fn into_response(self) -> Result<Response<()>, HeaderError> {
        self.check()?;
        let mut response = Response::new(());
        *response.status_mut() = self.status.ok_or(HeaderError::Malformed("no :status"))?;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.headers;
        Ok(response)
    }

    /// Returns trailers.
    ///
    /// # Errors
    /// The fields are malformed, with a pseudo-header for example, or too large.
    pub(super) fn into_trailers(self) -> Result<HeaderMap, HeaderError> {
        self.check()?;
        if self.status.is_some() {
            return Err(HeaderError::Malformed("a pseudo-header in trailers"));
        }
        Ok(self.headers)
    }

    fn check(&self) -> Result<(), HeaderError> {
        match self.fault {
            Some(what) => Err(HeaderError::Malformed(what)),
            None if self.size > self.max_size => Err(HeaderError::TooLarge),
            None => Ok(()),
        }
    }
}

/// The size of a header as counted against `max_response_header`, in octets: as HTTP/2 counts a
/// header list (RFC 9113, section 6.5.2), over HTTP/1.1 too.
pub(in crate::proxy) fn header_list_size(headers: &HeaderMap) -> usize {
    let size = |(name, value): (&HeaderName, &header::HeaderValue)| {
        name.as_str().len() + value.len() + FIELD_OVERHEAD
    };
    headers.iter().map(size).sum()
}

/// The `Content-Length` of a response; several fields must be equal.
///
/// # Errors
/// A value that is not a number, or several that differ.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeaderError> {
    let malformed = HeaderError::Malformed("an invalid Content-Length");
    let mut found = None;
    for field in headers.get_all(CONTENT_LENGTH) {
        let is_digits = !field.is_empty() && field.as_bytes().iter().all(u8::is_ascii_digit);
        let length = field.to_str().ok().filter(|_| is_digits);
        let length: u64 = length.and_then(|length| length.parse().ok()).ok_or(malformed)?;
        if found.is_some_and(|found| found != length) {
            return Err(HeaderError::Malformed("conflicting Content-Length fields"));
        }
        found = Some(length);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use http::{HeaderMap, HeaderValue, StatusCode};
    use ssegate_http2::hpack::HpackDecoder;

    use super::{HeaderError, ResponseHeadBuilder, content_length, header_list_size};

    fn builder(fields: &[(&str, &str)], max_size: usize) -> ResponseHeadBuilder {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0); // a literal field
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut builder = ResponseHeadBuilder::new(max_size);
        HpackDecoder::default()
            .decode(&block, |field| {
                builder.add(field);
                ControlFlow::Continue(())
            })
            .expect("valid HPACK");
        builder
    }

    #[test]
    fn a_response_has_the_status_and_the_fields_of_its_block() {
        let fields = [(":status", "204"), ("set-cookie", "a=1"), ("set-cookie", " b=2\t")];
        let response = builder(&fields, 1000).into_response().expect("well-formed");
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
    }

    #[test]
    fn a_malformed_header_block_is_rejected() {
        for fields in [
            &[("a", "b")][..],
            &[(":status", "200"), (":status", "200")],
            &[("a", "b"), (":status", "200")],
            &[(":status", "99")],
            &[(":status", "OK")],
            &[(":status", "200"), (":path", "/")],
            &[(":status", "200"), (":other", "1")],
            &[(":status", "200"), ("Upper", "1")],
            &[(":status", "200"), ("connection", "close")],
            &[(":status", "200"), ("transfer-encoding", "chunked")],
            &[(":status", "200"), ("a", "b\n")],
        ] {
            let response = builder(fields, 1000).into_response();
            assert!(matches!(response, Err(HeaderError::Malformed(_))), "{fields:?}");
        }
        let trailers = builder(&[(":status", "200")], 1000).into_trailers();
        assert!(matches!(trailers, Err(HeaderError::Malformed(_))));
    }

    #[test]
    fn the_limit_counts_regular_fields_as_over_http1() {
        let fields = [(":status", "200"), ("name", "value"), ("other", "")];
        let size = 4 + 5 + 32 + 5 + 32;
        let response = builder(&fields, size).into_response().expect("just within");
        assert_eq!(header_list_size(response.headers()), size);
        assert_eq!(builder(&fields, size - 1).into_response().err(), Some(HeaderError::TooLarge));
    }

    #[test]
    fn several_lengths_must_agree() {
        for (lengths, expected) in [
            (&[][..], Some(None)),
            (&["12"], Some(Some(12))),
            (&["12", "12"], Some(Some(12))),
            (&["12", "13"], None),
            (&["+1"], None),
            (&[""], None),
            (&["99999999999999999999999"], None),
        ] {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append("content-length", HeaderValue::from_static(length));
            }
            assert_eq!(content_length(&headers).ok(), expected, "{lengths:?}");
        }
    }
}
