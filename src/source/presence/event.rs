//! The event that reports who joins and leaves.

use serde::Serialize;

/// A member has joined or left.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PresenceChange {
    Join,
    Leave,
}

/// The data of the event. `src/source/redis/presence/update.lua` writes the same.
#[derive(Debug, Serialize)]
pub(super) struct PresenceData<'a> {
    pub(super) event: PresenceChange,
    pub(super) channel: &'a str,
    pub(super) id: &'a str,
    /// When it joined, in milliseconds since 1970.
    pub(super) since: u64,
    /// The number of members that the channel has now.
    pub(super) count: usize,
}

/// The payload that is published, in the format `envelope`.
pub(super) fn payload(data: &PresenceData<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct EnvelopeOf<'a> {
        event: &'static str,
        data: &'a PresenceData<'a>,
    }
    serde_json::to_vec(&EnvelopeOf { event: "presence", data }).expect("text and numbers are JSON")
}

/// The name of a channel as clients know it, without its prefix.
pub(crate) fn shown_name(name: &str, prefix_bytes: usize) -> &str {
    name.get(prefix_bytes..).unwrap_or(name)
}
