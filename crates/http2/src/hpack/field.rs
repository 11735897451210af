//! One decoded header field.

use std::fmt;

use http::{HeaderName, HeaderValue};

use crate::field_value::trim_blanks;

/// What an entry of the dynamic table counts beyond its name and value (RFC 7541, section 4.1), in
/// octets.
const OVERHEAD: usize = 32;

/// A field line. One that HTTP does not allow is marked and kept: the dynamic table must not lose
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Its name, or why it has none.
    pub name: FieldName,
    /// Without the white space around it.
    pub value: Result<HeaderValue, InvalidValue>,
    /// Whether there was white space around the value: malformed (RFC 9113, section 8.2.1).
    pub is_padded: bool,
    /// In octets, as RFC 7541, section 4.1, counts it.
    pub size: usize,
}

/// Why a value is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidValue {
    /// NUL, a line break, or white space at an end: malformed (RFC 9113, section 8.2.1).
    Malformed,
    /// Another control character: not malformed, but not allowed (RFC 9110, section 5.5).
    Control,
}

/// The name of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldName {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:protocol` (RFC 8441, section 4)
    Protocol,
    /// `:status`, which only responses have.
    Status,
    /// A regular field.
    Regular(HeaderName),
    /// Malformed (RFC 9113, sections 8.2.1 and 8.3): with an upper-case letter, for instance, or an
    /// unknown pseudo-header field.
    Malformed {
        /// Its length, which counts in the dynamic table.
        octets: usize,
    },
    /// Not a token (RFC 9110, section 5.1), although RFC 9113 does not call it malformed.
    NoToken {
        /// Its length, in octets.
        octets: usize,
    },
}

impl HeaderField {
    pub(super) fn new(name: &[u8], value: &[u8]) -> Self {
        Self::named(FieldName::of(name), name.len(), value)
    }

    /// A field whose name comes from a table.
    pub(super) fn named(name: FieldName, name_len: usize, value: &[u8]) -> Self {
        let size = name_len + value.len() + OVERHEAD;
        let trimmed = trim_blanks(value);
        let is_padded = trimmed.len() < value.len();
        Self { name, value: value_of(trimmed), is_padded, size }
    }

    /// The length of the name, in octets.
    pub(super) fn name_len(&self) -> usize {
        match &self.name {
            FieldName::Method => ":method".len(),
            FieldName::Scheme => ":scheme".len(),
            FieldName::Authority => ":authority".len(),
            FieldName::Path => ":path".len(),
            FieldName::Protocol => ":protocol".len(),
            FieldName::Status => ":status".len(),
            FieldName::Regular(name) => name.as_str().len(),
            FieldName::Malformed { octets } | FieldName::NoToken { octets } => *octets,
        }
    }
}

impl HeaderField {
    /// The value, if a request may have it: without white space around it.
    pub fn strict_value(&self) -> Result<&HeaderValue, InvalidValue> {
        if self.is_padded {
            return Err(InvalidValue::Malformed);
        }
        self.value.as_ref().map_err(|bad| *bad)
    }

    /// Marks the value as sensitive: no hop may index it (RFC 7541, section 6.2.3).
    pub(super) fn never_indexed(mut self) -> Self {
        if let Ok(value) = &mut self.value {
            value.set_sensitive(true);
        }
        self
    }
}

impl FieldName {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            _ => HeaderName::from_lowercase(name).map_or_else(|_| Self::bad(name), Self::Regular),
        }
    }

    fn bad(name: &[u8]) -> Self {
        let octets = name.len();
        let is_malformed = |b: &u8| matches!(b, 0x00..=0x20 | b'A'..=b'Z' | 0x7f.. | b':');
        if octets == 0 || name.iter().any(is_malformed) {
            Self::Malformed { octets }
        } else {
            Self::NoToken { octets }
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Protocol => ":protocol",
            Self::Status => ":status",
            Self::Regular(name) => name.as_str(),
            Self::Malformed { .. } | Self::NoToken { .. } => "a field",
        })
    }
}

fn value_of(value: &[u8]) -> Result<HeaderValue, InvalidValue> {
    HeaderValue::from_bytes(value).map_err(|_invalid| {
        let is_malformed = value.iter().any(|octet| matches!(octet, b'\0' | b'\r' | b'\n'));
        if is_malformed { InvalidValue::Malformed } else { InvalidValue::Control }
    })
}
