//! Payload formats: decodes the bytes that a publisher sent into an event.
//!
//! Decoding never fails: a payload that is not in its channel's format becomes an event with the
//! payload as its data, so that a publisher's mistake is visible and nothing is lost. Does not know
//! channels.

mod envelope;

use bytes::Bytes;

use crate::event::{Event, Format};
use crate::sse::encode;

/// A decoded event, and whether a part of its payload was invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The event.
    pub event: Event,
    /// Whether an invalid field was dropped: a name or an id with control characters, an id that is
    /// too long, a `retry` that is not a number of milliseconds.
    pub is_malformed: bool,
}

/// Decodes `payload` as `format`.
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

/// Returns the text of an `event` or `id` field; drops one that could inject a line into the
/// stream.
fn field(text: Option<String>, is_malformed: &mut bool) -> Option<Box<str>> {
    let text = text?;
    if encode::is_field_value(&text) {
        return Some(text.into());
    }
    *is_malformed = true;
    None
}
