//! Resolves `handover`: streams that the backend of a route hands over. No message contains a part of
//! the key.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::config::field::{At, Field};
use crate::config::file::{EventsFile, HandoverFile};
use crate::grip::signature::Secret;
use crate::route::HandoverSettings;

use super::Resolver;
use super::stream::StreamDefaults;

/// The default `iss` claim of `Grip-Sig`.
const ISSUER: &str = "ssegate";
/// The prefix of a base64-encoded key, as GRIP libraries write it.
const BASE64: &str = "base64:";

impl Resolver<'_> {
    /// Returns `None` where the route has no `handover`, or after a mistake.
    pub(super) fn handover(
        &self,
        field: Field<HandoverFile>,
        is_proxied: bool,
        defaults: &StreamDefaults,
    ) -> Option<HandoverSettings> {
        let At { place, value: mut file } = field.written()?;
        if !is_proxied {
            self.note(&place, "needs proxy on the same route, whose backend hands streams over");
        }
        let issuer = std::mem::take(&mut file.issuer);
        let issuer = issuer.written().map_or_else(
            || ISSUER.to_owned(),
            |at| {
                if at.value.is_empty() {
                    self.note(&at.place, "is empty; remove it, or set the issuer");
                }
                at.value
            },
        );
        let what = "set the secret that the backend verifies Grip-Sig with, such as \
                    ${HANDOVER_KEY:?openssl rand -base64 32}";
        let key = self.required(std::mem::take(&mut file.key), &place, "key", what);
        let key = key.and_then(|key| self.told(&key, secret));
        // No replay by default: the body of the response has the initial events.
        let at = file.max_channels.place().or_else(|| file.source.place()).cloned();
        let events = self.streams(streams(file), &defaults.without_replay());
        self.check_positions(at.as_ref(), &events);
        Some(HandoverSettings { key: key?, issuer, events })
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    let bytes = match text.strip_prefix(BASE64) {
        Some(encoded) => {
            let bytes = BASE64_STANDARD.decode(encoded);
            bytes.map_err(|_not_base64| "the text after base64: is not valid base64".to_owned())?
        }
        None => text.as_bytes().to_vec(),
    };
    let (length, least) = (bytes.len(), Secret::MIN_BYTES);
    Secret::new(bytes).ok_or_else(|| {
        format!("has {length} bytes, at least {least} are required; generate one with: openssl rand -base64 32")
    })
}

/// The keys that an events route has too.
fn streams(file: HandoverFile) -> EventsFile {
    let HandoverFile { source, format, strip_prefix, keep_alive, retry, history, .. } = file;
    let HandoverFile { replay, gap_events, linger, ready, max_channels, .. } = file;
    let HandoverFile { max_stream_age, queue, .. } = file;
    EventsFile {
        channels: Field::Absent,
        patterns: Field::Absent,
        source,
        format,
        strip_prefix,
        keep_alive,
        retry,
        history,
        replay,
        gap_events,
        linger,
        ready,
        max_channels,
        max_stream_age,
        queue,
    }
}

#[cfg(test)]
mod tests {
    use super::secret;

    #[test]
    fn a_short_key_is_rejected_and_no_message_contains_it() {
        let long = "hunter2-hunter2-hunter2-hunter2-";
        assert!(secret(long).is_ok());
        assert_eq!(
            secret("base64:aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMi0="),
            secret(long),
            "the same bytes"
        );
        for (text, hint) in [
            ("", "has 0 bytes"),
            ("hunter2", "has 7 bytes, at least 32 are required"),
            ("base64:aHVudGVyMg==", "has 7 bytes"),
            ("base64:hunter2!", "is not valid base64"),
        ] {
            let message = secret(text).expect_err(text);
            assert!(message.contains(hint), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
