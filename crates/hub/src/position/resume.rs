//! From where on a client is served when it connects, and which of the past events it is sent.

use std::sync::Arc;

use super::cursor::Cursor;
use super::event_id::EventId;
use super::foreign_id::MAX_FOREIGN_ID;
use super::log_positions::LogPositions;
use crate::Ids;

/// Which of each channel's past events a client without an id is sent before the live events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    #[default]
    None,
    /// The newest events, at most this many.
    Newest(usize),
    /// Everything that is kept.
    All,
    /// Everything since the source has followed the channel; a gap for what is not kept any more. For
    /// channels whose publisher may set ids ([`Ids::Mixed`]); on others it is [`Self::All`].
    Whole,
}

/// What a client has seen when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// Its last event id: a position in all its channels.
    pub id: Option<Vec<u8>>,
    /// For each channel, in the order in which the stream names them, the id of the newest event that
    /// the client has from elsewhere, such as the body of a backend's response. It overrides `id` there.
    /// May be empty.
    pub channel_ids: Vec<Option<String>>,
}

/// Where what a client missed came from, when it came back with an id. For logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResumedFrom {
    /// The history of this gateway, whose id it was.
    History,
    /// The history of this gateway, which has the place that another gateway's id names.
    Fleet,
    /// A log, whose entries the source keeps.
    Log,
    /// Events may be missing: the client was sent a gap, or would have been.
    Gap,
}

impl ResumedFrom {
    /// The word for it in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Fleet => "fleet",
            Self::Log => "log",
            Self::Gap => "gap",
        }
    }
}

/// Which events of the past a stream is sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Those after the cursor. Of each channel with numbers, only those after its floor.
    After { cursor: Cursor, floors: Option<Arc<[u64]>> },
    /// The newest of each channel, at most this many.
    Newest(usize),
    /// Those after the client's ids, one for each channel, of which at least one was given by another gateway
    /// or another run; `None` for an id that no gateway writes.
    Foreign(Arc<[Option<EventId>]>),
    /// All since the one channel was confirmed.
    Whole,
    /// Those after the event that has this id, of a publisher or of ours, on the one channel.
    AfterId(Arc<[u8]>),
    /// None: the client's id is unknown, which is a gap.
    Unknown,
}

impl Resume {
    /// For a client that has seen this, on a stream whose cursor is still at its beginning. `None`: the
    /// client is sent live events only.
    pub(crate) fn new(
        beginning: &Cursor,
        channels: usize,
        seen: &LastSeen,
        replay: Replay,
    ) -> Option<Self> {
        match beginning.ids() {
            Ids::Publisher => None,
            Ids::Mixed if seen.is_nothing() && replay == Replay::Whole => Some(Self::Whole),
            _ if seen.is_nothing() => replay.count().map(Self::Newest),
            // An id that cannot be read is unknown, not an error.
            Ids::Ours => Some(
                Self::after_number(beginning, seen)
                    .unwrap_or_else(|| Self::Foreign(seen.ids(channels))),
            ),
            // The history finds the event with this id.
            Ids::Mixed => Some(match &seen.id {
                Some(id) if id.len() <= MAX_FOREIGN_ID => Self::AfterId(id.as_slice().into()),
                _ => Self::Unknown,
            }),
            Ids::Entries | Ids::Recorded => {
                let mut logs = beginning.logs();
                let is_known = seen.read_positions(&mut logs);
                Some(match is_known {
                    true => Self::after(beginning.clone().in_logs(logs)),
                    false => Self::Unknown,
                })
            }
        }
    }

    /// The source of the events after the client's id, if none are missing; `None` for a client without an id.
    pub(crate) fn origin(&self) -> Option<ResumedFrom> {
        match self {
            Self::After { cursor, .. } if cursor.is_of_logs() => Some(ResumedFrom::Log),
            Self::After { .. } | Self::AfterId(_) => Some(ResumedFrom::History),
            Self::Foreign(_) => Some(ResumedFrom::Fleet),
            Self::Unknown => Some(ResumedFrom::Gap),
            Self::Newest(_) | Self::Whole => None,
        }
    }

    /// The number up to which the stream has come, at the least.
    pub(crate) fn reached(&self) -> u64 {
        match self {
            Self::After { cursor, .. } => cursor.number(),
            Self::Newest(_) | Self::Whole | Self::Foreign(_) | Self::AfterId(_) | Self::Unknown => {
                0
            }
        }
    }

    /// Everything after the cursor.
    pub(crate) fn after(cursor: Cursor) -> Self {
        Self::After { cursor, floors: None }
    }

    /// `None` if an id that counts is not of this run.
    fn after_number(beginning: &Cursor, seen: &LastSeen) -> Option<Self> {
        let number = |id: &[u8]| {
            let id = EventId::parse(id).filter(|id| id.run == beginning.run());
            id.map(|id| id.number)
        };
        let own = seen.id.as_deref().and_then(number);
        if seen.channel_ids.iter().all(Option::is_none) {
            return own.map(|number| Self::after(beginning.clone().at(number)));
        }
        // A channel without an id of its own begins at the client's id. If the client has none, it begins at
        // the oldest of all: then nothing is left out.
        let of_channel = |id: &Option<String>| match id {
            Some(id) => number(id.as_bytes()).map(Some),
            None => Some(own),
        };
        let numbers = seen.channel_ids.iter().map(of_channel);
        let numbers: Vec<Option<u64>> = numbers.collect::<Option<_>>()?;
        let oldest = numbers.iter().flatten().min().copied()?;
        let floors = numbers.iter().map(|number| number.unwrap_or(oldest)).collect();
        Some(Self::After { cursor: beginning.clone().at(oldest), floors: Some(floors) })
    }
}

impl LastSeen {
    /// What a client with this id has seen.
    pub fn up_to(id: Option<Vec<u8>>) -> Self {
        Self { id, channel_ids: Vec::new() }
    }

    /// The id that counts for each channel.
    fn ids(&self, channels: usize) -> Arc<[Option<EventId>]> {
        let own = self.id.as_deref().and_then(EventId::parse);
        let id = |channel: usize| match self.channel_ids.get(channel) {
            Some(Some(id)) => EventId::parse(id.as_bytes()),
            _ => own,
        };
        (0..channels).map(id).collect()
    }

    fn is_nothing(&self) -> bool {
        self.id.is_none() && self.channel_ids.iter().all(Option::is_none)
    }

    /// Reads the position in each log; returns false if an id that counts is unknown.
    fn read_positions(&self, logs: &mut LogPositions) -> bool {
        // If every log has an id of its own, the client's does not count.
        let is_overridden =
            !self.channel_ids.is_empty() && self.channel_ids.iter().all(Option::is_some);
        let is_read = self.id.as_deref().is_none_or(|id| logs.read(id));
        if !is_read && !is_overridden {
            return false;
        }
        let mut ids = self.channel_ids.iter().enumerate();
        ids.all(|(log, id)| id.as_deref().is_none_or(|id| logs.read_one(log, id.as_bytes())))
    }
}

impl Replay {
    fn count(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Newest(count) => Some(count),
            Self::All | Self::Whole => Some(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, LastSeen, LogPositions, Replay, Resume};
    use crate::RunTag;
    use crate::{EntryId, Ids};

    fn seen(id: Option<&str>, channel_ids: &[Option<&str>]) -> LastSeen {
        let channel_ids = channel_ids.iter().map(|id| id.map(str::to_owned)).collect();
        LastSeen { id: id.map(|id| id.as_bytes().to_vec()), channel_ids }
    }

    #[test]
    fn the_id_of_a_channel_overrides_the_id_of_the_client() {
        let run = RunTag::draw();
        let beginning = Cursor::new(Ids::Ours, run, std::iter::empty());
        let at = |number: u64| run.at(number).to_string();
        let cursor = |number| beginning.clone().at(number);
        let after = |number, floors: &[u64]| {
            Some(Resume::After { cursor: cursor(number), floors: Some(floors.into()) })
        };
        for (own, of_channels, expected) in [
            (None, &[None, None][..], None),
            (Some(5), &[], Some(Resume::after(cursor(5)))),
            (Some(5), &[None, None], Some(Resume::after(cursor(5)))),
            (None, &[Some(10), None], after(10, &[10, 10])),
            (None, &[Some(10), Some(9)], after(9, &[10, 9])),
            (Some(5), &[Some(10), None], after(5, &[10, 5])),
            (Some(12), &[Some(10), None], after(10, &[10, 12])),
        ] {
            let own = own.map(at);
            let ids: Vec<_> =
                of_channels.iter().map(|number: &Option<u64>| number.map(at)).collect();
            let ids: Vec<_> = ids.iter().map(Option::as_deref).collect();
            let seen = seen(own.as_deref(), &ids);
            let resume = Resume::new(&beginning, 2, &seen, Replay::None);
            assert_eq!(resume, expected, "{seen:?}");
        }
        for (own, ids) in [
            (Some("strange"), &[][..]),
            (Some("strange"), &[Some("zzzzzz-1")]),
            (None, &[Some("what"), None]),
        ] {
            let seen = seen(own, ids);
            let resume = Resume::new(&beginning, 2, &seen, Replay::None);
            let Some(Resume::Foreign(ids)) = resume else { panic!("{seen:?}: {resume:?}") };
            assert_eq!(ids.len(), 2);
        }
    }

    #[test]
    fn the_id_of_a_log_overrides_the_position_of_the_client() {
        let entry = |milliseconds| EntryId { milliseconds, sequence: 0 };
        let beginning = Cursor::new(Ids::Entries, RunTag::draw(), ["a", "b", "c"].into_iter());
        let positions = |entries: [Option<u64>; 3]| {
            let mut logs: LogPositions = beginning.logs();
            for (log, ms) in entries.into_iter().enumerate() {
                ms.into_iter().for_each(|ms| logs.set(log, entry(ms)));
            }
            logs
        };
        let own = positions([Some(1), Some(2), None]).text().expect("known");
        for (id, channel_ids, expected) in [
            (None, &[Some("7-0"), None, None][..], Some([Some(7), None, None])),
            (Some(&*own), &[], Some([Some(1), Some(2), None])),
            (Some(&*own), &[Some("7-0"), None, None], Some([Some(7), Some(2), None])),
            // A backend that echoes the client's position means this channel's part of it.
            (None, &[Some(&*own), Some(&*own), None], Some([Some(1), Some(2), None])),
            (
                Some("strange"),
                &[Some("7-0"), Some("8-0"), Some("9-0")],
                Some([Some(7), Some(8), Some(9)]),
            ),
            (Some("strange"), &[Some("7-0"), None, None], None),
            (Some("1-0~2-5~"), &[], None),
            (Some(&*own), &[Some("strange"), None, None], None),
        ] {
            let seen = seen(id, channel_ids);
            let resume = Resume::new(&beginning, 3, &seen, Replay::All);
            let expected = expected.map_or(Resume::Unknown, |entries| {
                Resume::after(beginning.clone().in_logs(positions(entries)))
            });
            assert_eq!(resume, Some(expected), "{seen:?}");
        }
    }
}
