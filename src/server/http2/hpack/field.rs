//! One header field, as it was decoded.

use http::{HeaderName, HeaderValue};

/// What the size of a field is more than its octets (RFC 7541, section 4.1).
const OVERHEAD: usize = 32;

/// A field line. What HTTP does not allow in one is kept as such: the compression context must not
/// lose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Name,
    /// Without white space around it. `None`: octets that no value may have (RFC 9113, section 8.2.1).
    pub(crate) value: Option<HeaderValue>,
    /// Whether there was white space around it, which is malformed (ibid.).
    pub(crate) is_padded: bool,
    /// As RFC 7541, section 4.1 counts it.
    pub(crate) size: usize,
}

/// The name of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
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
    /// `:status`, which only a response has.
    Status,
    /// A field of HTTP.
    Regular(HeaderName),
    /// None that a message may have: one with an upper case letter, say.
    Malformed {
        /// Octets of it: the client counts them in its table.
        octets: usize,
    },
}

impl Field {
    pub(super) fn new(name: &[u8], value: &[u8]) -> Self {
        Self::named(Name::of(name), name.len(), value)
    }

    /// With a name that is known already.
    pub(super) fn named(name: Name, name_len: usize, value: &[u8]) -> Self {
        let size = name_len + value.len() + OVERHEAD;
        let trimmed = without_padding(value);
        let is_padded = trimmed.len() < value.len();
        Self { name, value: HeaderValue::from_bytes(trimmed).ok(), is_padded, size }
    }

    /// Octets of the name.
    pub(super) fn name_len(&self) -> usize {
        match &self.name {
            Name::Method => ":method".len(),
            Name::Scheme => ":scheme".len(),
            Name::Authority => ":authority".len(),
            Name::Path => ":path".len(),
            Name::Protocol => ":protocol".len(),
            Name::Status => ":status".len(),
            Name::Regular(name) => name.as_str().len(),
            Name::Malformed { octets } => *octets,
        }
    }
}

impl Field {
    /// Marks it as one that is never to be indexed, by nobody on its way (RFC 7541, section 6.2.3).
    pub(super) fn never_indexed(mut self) -> Self {
        if let Some(value) = &mut self.value {
            value.set_sensitive(true);
        }
        self
    }
}

/// A value without the spaces and tabs around it.
fn without_padding(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            _ => HeaderName::from_lowercase(name)
                .map_or(Self::Malformed { octets: name.len() }, Self::Regular),
        }
    }
}
