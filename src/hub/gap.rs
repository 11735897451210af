//! What a client is told when something may be missing.

use std::fmt::Write as _;

use crate::event::Event;
use crate::sse::encode;
use crate::sse::frame::Frame;

/// Why events may be missing from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// What followed the client's id is no longer kept.
    Expired,
    /// The gateway could not keep up with its source.
    Overload,
    /// The client's own queue was full.
    Overflow,
    /// Redis was away, and what was published meanwhile is gone.
    RedisAway,
    /// The source's log was begun anew: its entries are others than those that the client knows.
    Reset,
    /// The source's log has come back older than it was: its newest entries are gone.
    RolledBack,
    /// An event was longer than `max_event_bytes`.
    TooLarge,
    /// The source's log no longer has what followed the client's id.
    Trimmed,
    /// The client's id is not one of this gateway's.
    UnknownId,
}

impl GapReason {
    /// Every reason, for a metric that shows them all from the start.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::Overload,
        Self::Overflow,
        Self::RedisAway,
        Self::Reset,
        Self::RolledBack,
        Self::TooLarge,
        Self::Trimmed,
        Self::UnknownId,
    ];

    /// Whether the log goes on at an entry before the newest that was known.
    pub fn goes_back(self) -> bool {
        matches!(self, Self::Reset | Self::RolledBack)
    }

    /// The word on the wire and in the metrics.
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
        }
    }
}

/// The `gap` event: why, on which channels, and the position from which nothing is missing again.
pub(super) fn frame<'a>(
    reason: GapReason,
    channels: impl Iterator<Item = &'a str>,
    position: Option<&str>,
) -> Frame {
    let channels: Vec<&str> = channels.collect();
    let mut data = String::new();
    write!(data, "{{\"reason\":\"{}\",\"channels\":", reason.as_str())
        .expect("a string takes any text");
    data += &serde_json::to_string(&channels).expect("text is always JSON");
    data.push('}');
    let event = Event { name: Some("gap".into()), data: data.into(), ..Event::default() };
    encode::frame(&event, position)
}

#[cfg(test)]
mod tests {
    use super::{GapReason, frame};
    use crate::sse::frame::Form;

    #[test]
    fn a_gap_says_why_where_and_from_when_on() {
        assert_eq!(
            frame(GapReason::RedisAway, ["a", "b\"c"].into_iter(), Some("abc123-7"))
                .bytes(Form::Text),
            "event: gap\ndata: {\"reason\":\"redis_away\",\"channels\":[\"a\",\"b\\\"c\"]}\nid: abc123-7\n\n"
        );
    }
}
