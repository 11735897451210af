//! What a client asks for of the past.

use std::sync::Arc;

use crate::event::{EntryId, Ids};
use crate::hub::position::event_id::{EventId, RunTag};
use crate::hub::position::log_positions::LogPositions;

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
pub(in crate::hub) enum Resume {
    /// What came after this number of our run; of each channel, only what came after its floor.
    After { number: u64, floors: Option<Arc<[u64]>> },
    /// The newest events of each channel.
    Newest(usize),
    /// Its id is not one of ours: it can only be told so.
    Unknown,
    /// A place in each of several logs.
    Logs(Box<[LogStart]>),
    /// Its id is none that was ever written for these logs.
    UnknownInLogs,
}

/// From where on a client is served out of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum LogStart {
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

/// Where a client says that it stands, when it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// The id that it had last: a position in all its channels.
    pub id: Option<Vec<u8>>,
    /// Of each channel, in the order in which the stream names them: the id of the newest event that
    /// somebody else has told it of. It counts before the client's own. Empty: nobody has.
    pub told: Vec<Option<String>>,
}

impl Resume {
    /// What is asked for by one who has seen this. `None`: nothing of the past.
    pub(in crate::hub) fn new(
        ids: Ids,
        seen: &LastSeen,
        replay: Replay,
        logs: &LogPositions,
        run: RunTag,
    ) -> Option<Self> {
        // However strange an id is, it is only unknown.
        match ids {
            Ids::Publisher => None,
            Ids::Ours if seen.is_nothing() => replay.count().map(Self::Newest),
            Ids::Ours => Some(Self::in_numbers(seen, run).unwrap_or(Self::Unknown)),
            Ids::Entries if seen.is_nothing() => {
                let newest = |count| logs.iter().map(|_| LogStart::Newest(count)).collect();
                replay.count().map(newest).map(Self::Logs)
            }
            Ids::Entries => {
                let mut places = logs.clone();
                let is_known = seen.place_in(&mut places);
                Some(if is_known { Self::in_logs(&places) } else { Self::UnknownInLogs })
            }
        }
    }

    /// What came after this number.
    pub(in crate::hub) fn after(number: u64) -> Self {
        Self::After { number, floors: None }
    }

    /// What came after these places.
    pub(in crate::hub) fn in_logs(places: &LogPositions) -> Self {
        let start = |place: Option<EntryId>| place.map_or(LogStart::Now, LogStart::After);
        Self::Logs(places.iter().map(start).collect())
    }

    /// `None` where what counts is not of this run.
    fn in_numbers(seen: &LastSeen, run: RunTag) -> Option<Self> {
        let number = |id: &[u8]| {
            let position = EventId::parse(id).filter(|position| position.run == run);
            position.map(|position| position.number)
        };
        let own = seen.id.as_deref().and_then(number);
        if seen.told.iter().all(Option::is_none) {
            return own.map(Self::after);
        }
        // Of a channel that nobody has told it of, the client knows itself where it stands. One that
        // does not is sent no less than of the others: then nothing is left out.
        let place = |id: &Option<String>| match id {
            Some(id) => number(id.as_bytes()).map(Some),
            None => Some(own),
        };
        let places: Vec<Option<u64>> = seen.told.iter().map(place).collect::<Option<_>>()?;
        let oldest = places.iter().flatten().min().copied()?;
        let floors = places.iter().map(|number| number.unwrap_or(oldest)).collect();
        Some(Self::After { number: oldest, floors: Some(floors) })
    }
}

impl LastSeen {
    /// What a client with this id has seen.
    pub fn up_to(id: Option<Vec<u8>>) -> Self {
        Self { id, told: Vec::new() }
    }

    fn is_nothing(&self) -> bool {
        self.id.is_none() && self.told.iter().all(Option::is_none)
    }

    /// Finds its place in each log; returns whether all that it has makes sense.
    fn place_in(&self, logs: &mut LogPositions) -> bool {
        // Where every log was told of, it does not matter what the client itself has.
        let is_all_told = !self.told.is_empty() && self.told.iter().all(Option::is_some);
        let is_read = self.id.as_deref().is_none_or(|id| logs.read(id));
        if !is_read && !is_all_told {
            return false;
        }
        let mut told = self.told.iter().enumerate();
        told.all(|(log, id)| id.as_deref().is_none_or(|id| logs.read_one(log, id.as_bytes())))
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

#[cfg(test)]
mod tests {
    use super::{LastSeen, LogStart, Replay, Resume, RunTag};
    use crate::event::{EntryId, Ids};
    use crate::hub::position::log_positions::LogPositions;

    fn seen(id: Option<&str>, told: &[Option<&str>]) -> LastSeen {
        let told = told.iter().map(|id| id.map(str::to_owned)).collect();
        LastSeen { id: id.map(|id| id.as_bytes().to_vec()), told }
    }

    #[test]
    fn what_others_told_counts_for_their_channels_and_the_own_id_for_the_rest() {
        let run = RunTag::draw();
        let at = |number: u64| run.at(number).to_string();
        let after =
            |number, floors: &[u64]| Some(Resume::After { number, floors: Some(floors.into()) });
        for (own, told, expected) in [
            (None, &[None, None][..], None),
            (Some(5), &[], Some(Resume::after(5))),
            (Some(5), &[None, None], Some(Resume::after(5))),
            (None, &[Some(10), None], after(10, &[10, 10])),
            (None, &[Some(10), Some(9)], after(9, &[10, 9])),
            (Some(5), &[Some(10), None], after(5, &[10, 5])),
            (Some(12), &[Some(10), None], after(10, &[10, 12])),
        ] {
            let own = own.map(at);
            let told: Vec<_> = told.iter().map(|number: &Option<u64>| number.map(at)).collect();
            let told: Vec<_> = told.iter().map(Option::as_deref).collect();
            let seen = seen(own.as_deref(), &told);
            let nowhere = LogPositions::nowhere(std::iter::empty());
            let resume = Resume::new(Ids::Ours, &seen, Replay::None, &nowhere, run);
            assert_eq!(resume, expected, "{seen:?}");
        }
        for (own, told) in [
            (Some("strange"), &[][..]),
            (Some("strange"), &[Some("zzzzzz-1")]),
            (None, &[Some("what"), None]),
        ] {
            let (seen, nowhere) = (seen(own, told), LogPositions::nowhere(std::iter::empty()));
            let resume = Resume::new(Ids::Ours, &seen, Replay::None, &nowhere, run);
            assert_eq!(resume, Some(Resume::Unknown), "{seen:?}");
        }
    }

    #[test]
    fn a_place_in_a_log_is_what_others_told_or_what_the_own_id_says() {
        let entry = |milliseconds| EntryId { milliseconds, sequence: 0 };
        let logs = LogPositions::nowhere(["a", "b", "c"].into_iter());
        let mut both = logs.clone();
        both.set(0, entry(1));
        both.set(1, entry(2));
        let own = both.position().expect("known");
        let (after, now) = (|ms| LogStart::After(entry(ms)), LogStart::Now);
        for (id, told, expected) in [
            (None, &[Some("7-0"), None, None][..], Some([after(7), now, now])),
            (Some(&*own), &[], Some([after(1), after(2), now])),
            (Some(&*own), &[Some("7-0"), None, None], Some([after(7), after(2), now])),
            // Who echoes what the client sent means that channel's part of it.
            (None, &[Some(&*own), Some(&*own), None], Some([after(1), after(2), now])),
            (
                Some("strange"),
                &[Some("7-0"), Some("8-0"), Some("9-0")],
                Some([after(7), after(8), after(9)]),
            ),
            (Some("strange"), &[Some("7-0"), None, None], None),
            (Some("1-0~2-5~"), &[], None),
            (Some(&*own), &[Some("strange"), None, None], None),
        ] {
            let seen = seen(id, told);
            let resume = Resume::new(Ids::Entries, &seen, Replay::All, &logs, RunTag::draw());
            let expected =
                expected.map_or(Resume::UnknownInLogs, |starts| Resume::Logs(starts.into()));
            assert_eq!(resume, Some(expected), "{seen:?}");
        }
    }
}
