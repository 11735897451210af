//! Aggregate values (arrays, sets, push messages, maps) while their elements arrive.

use super::{ProtocolError, Value, number};

#[derive(Clone, Copy, Debug)]
pub(super) enum AggregateKind {
    Array,
    Set,
    Push,
    Map,
    /// A map with metadata about the value that follows. Decoded and dropped.
    Attribute,
}

impl AggregateKind {
    /// The kind with this type byte.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'*' => Some(Self::Array),
            b'>' => Some(Self::Push),
            b'~' => Some(Self::Set),
            b'%' => Some(Self::Map),
            b'|' => Some(Self::Attribute),
            _ => None,
        }
    }

    /// Parses the number of elements after the type byte; `None` for the null array of RESP2.
    pub(super) fn len(self, text: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let announced = number::integer(text).ok_or(ProtocolError::InvalidLength)?;
        if announced == -1 && matches!(self, Self::Array) {
            return Ok(None);
        }
        let len = usize::try_from(announced).map_err(|_| ProtocolError::InvalidLength)?;
        match self {
            Self::Map | Self::Attribute => Ok(Some(len.saturating_mul(2))),
            Self::Array | Self::Push | Self::Set => Ok(Some(len)),
        }
    }
}

/// A value whose elements have not all arrived.
#[derive(Debug)]
pub(super) struct Aggregate {
    kind: AggregateKind,
    missing: usize,
    elements: Vec<Value>,
    // Bytes of the strings among the elements, not counting those inside nested aggregates.
    bytes: usize,
}

impl Aggregate {
    pub(super) fn new(kind: AggregateKind, len: usize) -> Self {
        // Announcing a length costs a peer nothing, so only a little is reserved.
        Self { kind, missing: len, elements: Vec::with_capacity(len.min(16)), bytes: 0 }
    }

    /// Elements that have not arrived.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Memory of the elements that have arrived, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes + self.elements.capacity() * size_of::<Value>()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(super) fn push(&mut self, element: Value) {
        debug_assert!(self.missing > 0, "a complete aggregate takes no elements");
        self.bytes += element.as_bytes().map_or(0, bytes::Bytes::len);
        self.elements.push(element);
        self.missing -= 1;
    }

    /// The finished value; `None` for an attribute.
    pub(super) fn close(self) -> Option<Value> {
        match self.kind {
            AggregateKind::Array => Some(Value::Array(self.elements)),
            AggregateKind::Set => Some(Value::Set(self.elements)),
            AggregateKind::Push => Some(Value::Push(self.elements)),
            AggregateKind::Map => Some(Value::Map(pairs(self.elements))),
            AggregateKind::Attribute => None,
        }
    }
}

fn pairs(elements: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(elements.len() / 2);
    let mut elements = elements.into_iter();
    while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
        pairs.push((key, value));
    }
    pairs
}
