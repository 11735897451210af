//! The `gap` event: what a client is sent where events may be missing from its stream.

use std::fmt::Write as _;

use ssegate_sse::frame::Frame;
use ssegate_sse::{Event, encode};

/// Why events may be missing from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The history no longer reaches back to the client's id.
    Expired,
    /// A shard could not keep up with the source.
    Overload,
    /// The client's own queue was full.
    Overflow,
    /// Redis was away, and what was published meanwhile is lost.
    RedisAway,
    /// The log was deleted and begun anew: its ids are not those that the client knows.
    Reset,
    /// The log was restored from an older state: its newest entries are gone.
    RolledBack,
    /// An event was longer than `max_event_bytes`.
    TooLarge,
    /// The log was trimmed: the entries after the client's id are gone.
    Trimmed,
    /// The client's id is not one of this gateway's, or not of this run.
    UnknownId,
    /// What was published meanwhile was not recorded, or may not have been.
    Unrecorded,
    /// The stream of a backend that readers share was away: what the backend sent meanwhile is not known.
    UpstreamAway,
}

impl GapReason {
    /// Every reason, for a metric that has them all from the start.
    pub const ALL: [Self; 11] = [
        Self::Expired,
        Self::Overload,
        Self::Overflow,
        Self::RedisAway,
        Self::Reset,
        Self::RolledBack,
        Self::TooLarge,
        Self::Trimmed,
        Self::UnknownId,
        Self::Unrecorded,
        Self::UpstreamAway,
    ];

    /// Whether the log goes on at an entry before the newest that was read.
    pub fn goes_back(self) -> bool {
        matches!(self, Self::Reset | Self::RolledBack)
    }

    /// The word for it on the wire and in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Overload => "overload",
            Self::Overflow => "overflow",
            Self::RedisAway => "redis_away",
            Self::Reset => "reset",
            Self::RolledBack => "rolled_back",
            Self::TooLarge => "too_large",
            Self::Trimmed => "trimmed",
            Self::UnknownId => "unknown_id",
            Self::Unrecorded => "unrecorded",
            Self::UpstreamAway => "upstream_away",
        }
    }
}

/// The `gap` event: its reason, on which channels, and the id after which nothing is missing.
pub(super) fn frame<'a>(
    reason: GapReason,
    channels: impl Iterator<Item = &'a str>,
    id: Option<&str>,
) -> Frame {
    let channels: Vec<&str> = channels.collect();
    let mut data = String::new();
    write!(data, "{{\"reason\":\"{}\",\"channels\":", reason.as_str())
        .expect("a string takes any text");
    data += &serde_json::to_string(&channels).expect("text is always JSON");
    data.push('}');
    let event = Event { name: Some("gap".into()), data: data.into(), ..Event::default() };
    encode::frame(&event, id)
}

#[cfg(test)]
mod tests {
    use ssegate_sse::frame::Form;

    use super::{GapReason, frame};

    #[test]
    fn a_gap_has_its_reason_its_channels_and_an_id() {
        assert_eq!(
            frame(GapReason::RedisAway, ["a", "b\"c"].into_iter(), Some("abc123-7"))
                .bytes(Form::Text),
            "event: gap\ndata: {\"reason\":\"redis_away\",\"channels\":[\"a\",\"b\\\"c\"]}\nid: abc123-7\n\n"
        );
    }
}
