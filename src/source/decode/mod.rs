//! Payload formats: from the bytes that a publisher sent to an event.
//!
//! Total: a payload that is not in its channel's format is an event all the same, with the payload
//! as its data, so that a publisher's mistake is seen and not lost. Knows no channel.

mod envelope;

use bytes::Bytes;

use crate::event::{Event, Format};
use crate::sse::encode;

/// An event, and what of its payload could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The event.
    pub event: Event,
    /// Whether something was left out: a name or an id with control characters, an id that is too
    /// long, a `retry` that is no number of milliseconds.
    pub is_malformed: bool,
}

/// Reads `payload` as `format` says.
pub fn decode(format: Format, payload: &Bytes) -> Decoded {
    match format {
        Format::Raw => raw(payload),
        Format::Envelope => envelope::decode(payload),
    }
}

fn raw(payload: &Bytes) -> Decoded {
    let event = Event { data: payload.clone(), ..Event::default() };
    Decoded { event, is_malformed: false }
}

/// A text for an `event` or `id` field; one that could forge a line is left out.
fn field(text: Option<String>, is_malformed: &mut bool) -> Option<Box<str>> {
    let text = text?;
    if encode::is_field_value(&text) {
        return Some(text.into());
    }
    *is_malformed = true;
    None
}
