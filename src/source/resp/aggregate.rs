//! Values made of values, while they are filled.

use super::{ProtocolError, Value, number};

#[derive(Clone, Copy, Debug)]
pub(super) enum AggregateKind {
    Array,
    Set,
    Push,
    Map,
    /// A map before a value, which says something of it. Read, and dropped.
    Attribute,
}

impl AggregateKind {
    /// The kind that begins with this byte.
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

    /// How many values follow, from the text after that byte; `None` for RESP2's null array.
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

/// A value that waits for the values inside it.
#[derive(Debug)]
pub(super) struct Aggregate {
    kind: AggregateKind,
    missing: usize,
    elements: Vec<Value>,
    // Of the strings among them. Not of what stands in an element that has elements itself.
    bytes: usize,
}

impl Aggregate {
    pub(super) fn new(kind: AggregateKind, len: usize) -> Self {
        // An announcement costs a peer nothing, so it reserves little.
        Self { kind, missing: len, elements: Vec::with_capacity(len.min(16)), bytes: 0 }
    }

    /// Elements that have not come.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// The memory of the elements that have come, in bytes.
    pub(super) fn held(&self) -> usize {
        self.bytes + self.elements.capacity() * size_of::<Value>()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(super) fn push(&mut self, element: Value) {
        debug_assert!(self.missing > 0, "complete ones are closed");
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
