//! What a client asks for of the past.

use std::sync::Arc;

use super::entries::Places;
use super::position::{Position, Run};
use crate::event::{EntryId, Ids};

/// What a client without an id is sent of each channel's past before the live events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    #[default]
    None,
    /// The newest events, at most so many.
    Newest(usize),
    /// Everything that is kept.
    All,
}

/// From where on a client is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// What came after this number of our run; of each channel, only what came after its floor.
    After { number: u64, floors: Option<Arc<[u64]>> },
    /// The newest events of each channel.
    Newest(usize),
    /// Its id is not one of ours: it can only be told so.
    Unknown,
    /// A place in each of several logs.
    Logs(Box<[Start]>),
    /// Its id is none that was ever written for these logs.
    UnknownInLogs,
}

/// From where on a client is served out of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// After this entry.
    After(EntryId),
    /// After this entry, and the log's source has said that nothing is missing after it but what we
    /// will hear of.
    Ahead(EntryId),
    /// After the newest entry.
    Now,
    /// With the newest entries.
    Newest(usize),
}

impl Resume {
    /// What is asked for with this id, or with none. `None`: nothing of the past.
    pub(super) fn new(
        ids: Ids,
        last_event_id: Option<&[u8]>,
        replay: Replay,
        channels: usize,
        run: Run,
    ) -> Option<Self> {
        // However strange an id is, it is only unknown.
        match (ids, last_event_id) {
            (Ids::Publisher, _) => None,
            (Ids::Ours, Some(id)) => Some(match Position::parse(id) {
                Some(position) if position.run == run => Self::after(position.number),
                _ => Self::Unknown,
            }),
            (Ids::Ours, None) => replay.count().map(Self::Newest),
            (Ids::Entries, Some(id)) => Some(
                Places::parse(id, channels)
                    .map_or(Self::UnknownInLogs, |places| Self::in_logs(&places)),
            ),
            (Ids::Entries, None) => {
                replay.count().map(|count| Self::Logs(vec![Start::Newest(count); channels].into()))
            }
        }
    }

    /// What came after this number.
    pub(super) fn after(number: u64) -> Self {
        Self::After { number, floors: None }
    }

    /// What came after these places.
    pub(super) fn in_logs(places: &Places) -> Self {
        let start = |place: Option<EntryId>| place.map_or(Start::Now, Start::After);
        Self::Logs(places.iter().map(start).collect())
    }
}

impl Replay {
    fn count(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Newest(count) => Some(count),
            Self::All => Some(usize::MAX),
        }
    }
}
