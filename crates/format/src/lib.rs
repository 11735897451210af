#![doc = include_str!("../README.md")]

mod envelope;
mod laravel;

use bytes::Bytes;
pub use envelope::encode_envelope;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use ssegate_sse::{Event, encode};

/// Declares [`Format`] and its decoders. The comment of a format is its description in the JSON
/// Schema of gateway.yaml.
macro_rules! formats {
    ($($(#[$attribute:meta])+ $format:ident = $name:literal => $decode:path,)+) => {
        /// How the publishers of a channel encode its payloads.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
        pub enum Format {
            $($(#[$attribute])+ #[serde(rename = $name)] $format,)+
        }

        impl Format {
            /// All formats.
            pub const ALL: &[Self] = &[$(Self::$format),+];

            /// The name of this format in gateway.yaml.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$format => $name,)+
                }
            }

            /// Decodes `payload`.
            pub fn decode(self, payload: &Bytes) -> Decoded {
                match self {
                    $(Self::$format => $decode(payload),)+
                }
            }
        }
    };
}

formats! {
    /// The message is the data of the event.
    #[default]
    Raw = "raw" => raw,
    /// A JSON object with `event` or `type`, `data`, `id` and `retry`.
    Envelope = "envelope" => envelope::decode,
    /// What Laravel's `redis` broadcast driver publishes: a JSON object with `event` and `data`.
    Laravel = "laravel" => laravel::decode,
}

/// A decoded event, and whether a part of its payload was invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The event.
    pub event: Event,
    /// Whether an invalid field was dropped: a name or an id with control characters, an id that is
    /// too long, a `retry` that is not a number of milliseconds.
    pub is_malformed: bool,
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

/// Returns a string as is, any other value as compact JSON. A string with a lone surrogate is not
/// valid Unicode and stays as written.
fn data(data: &RawValue) -> Bytes {
    match serde_json::from_str::<String>(data.get()) {
        Ok(text) => text.into(),
        Err(_) => compact(data.get()).into(),
    }
}

/// Removes the white space between JSON tokens. Numbers and keys stay as written.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut is_in_string, mut is_escaped) = (false, false);
    for character in json.chars() {
        if !is_in_string && matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        if character == '"' && !is_escaped {
            is_in_string = !is_in_string;
        }
        is_escaped = is_in_string && character == '\\' && !is_escaped;
        compact.push(character);
    }
    compact
}
