//! The open streams of one thread, each with the time of its next visit.
//!
//! A visit keeps a quiet stream alive, or cuts one off that cannot be written to. What a visit does is up to
//! the caller.

use std::cell::{Cell, RefCell};
use std::fmt;

use slab::Slab;
use tokio::time::Instant;

use super::timers::Timers;

/// Names a stream of one thread. Its place may be used again; the generation tells the two apart.
// Small: every stream has several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    place: u32,
    generation: u32,
}

/// The open streams of one thread. `T` is a handle to one of them.
pub struct TimedStreams<T> {
    streams: RefCell<Slab<(StreamKey, T)>>,
    timers: RefCell<Timers<StreamKey>>,
    // Counts streams, and wraps after 2^32 of them: the stream that had the same place and generation is
    // long gone by then.
    generations: Cell<u32>,
}

impl<T: Clone> TimedStreams<T> {
    /// No streams yet.
    pub fn new(now: Instant) -> Self {
        Self {
            streams: RefCell::default(),
            timers: RefCell::new(Timers::new(now)),
            generations: Cell::new(0),
        }
    }

    /// Adds a stream that is visited for the first time at `first`.
    pub fn insert(&self, stream: T, first: Instant) -> StreamKey {
        let mut streams = self.streams.borrow_mut();
        let generation = self.generations.replace(self.generations.get().wrapping_add(1));
        let place = u32::try_from(streams.vacant_key()).expect("a thread has fewer streams");
        let key = StreamKey { place, generation };
        streams.insert((key, stream));
        self.schedule(key, first);
        key
    }

    /// Removes a stream, and returns it.
    ///
    /// # Panics
    /// It was removed before.
    pub fn remove(&self, key: StreamKey) -> T {
        let (known, stream) = self.streams.borrow_mut().remove(key.place as usize);
        debug_assert_eq!(known, key, "a key is removed once");
        stream
    }

    /// The stream with this key; `None` once it is removed.
    pub fn get(&self, key: StreamKey) -> Option<T> {
        let streams = self.streams.borrow();
        let stream = streams.get(key.place as usize).filter(|(known, _)| *known == key);
        stream.map(|(_, stream)| stream.clone())
    }

    /// The keys of all streams.
    pub fn keys(&self) -> Vec<StreamKey> {
        self.streams.borrow().iter().map(|(_, (key, _))| *key).collect()
    }

    /// Calls `map` for each stream, in no order, and returns the results.
    pub fn filter_map<R>(&self, mut map: impl FnMut(&T) -> Option<R>) -> Vec<R> {
        self.streams.borrow().iter().filter_map(|(_, (_, stream))| map(stream)).collect()
    }

    /// Visits up to `most` streams from the place `first` on; returns where the next slice begins.
    pub fn visit_slice(
        &self,
        first: usize,
        most: usize,
        mut visit: impl FnMut(&T),
    ) -> Option<usize> {
        let streams = self.streams.borrow();
        let end = first + most;
        for place in first..end.min(streams.capacity()) {
            if let Some((_, stream)) = streams.get(place) {
                visit(stream);
            }
        }
        (end < streams.capacity()).then_some(end)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits the stream at `at` too, or up to one tick later.
    pub fn schedule(&self, key: StreamKey, at: Instant) {
        self.timers.borrow_mut().add(key, at);
    }

    /// Visits every stream at `at`, or up to one tick later, and drops the visits that were scheduled before.
    /// For a change of settings on which they were based.
    pub fn reschedule(&self, at: Instant) {
        let streams = self.streams.borrow();
        let mut timers = self.timers.borrow_mut();
        timers.clear();
        streams.iter().for_each(|(_, (key, _))| timers.add(*key, at));
    }

    /// Visits the streams that are due. `visit` returns when to visit the stream again; `None`: never.
    pub fn visit_due(&self, now: Instant, visit: impl Fn(&T) -> Option<Instant>) {
        loop {
            // Not in the condition of the loop: the borrow must end before a visit schedules another one.
            let due = self.timers.borrow_mut().take_due(now);
            let Some(due) = due else { break };
            for key in due {
                if let Some(next) = self.get(key).and_then(|stream| visit(&stream)) {
                    self.schedule(key, next);
                }
            }
        }
    }
}

impl<T> fmt::Debug for TimedStreams<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.streams.borrow().len();
        f.debug_struct("TimedStreams").field("streams", &streams).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::TimedStreams;

    #[test]
    fn a_stream_is_visited_when_due_and_not_after_its_removal() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let streams = TimedStreams::new(start);
        let visited = RefCell::new(Vec::new());
        let visit_due = |seconds| {
            streams.visit_due(at(seconds), |name: &&str| {
                visited.borrow_mut().push(*name);
                Some(at(seconds + 10))
            });
            std::mem::take(&mut *visited.borrow_mut())
        };
        let [first, second] = ["first", "second"].map(|name| streams.insert(name, at(5)));

        assert!(visit_due(4).is_empty());
        assert_eq!(visit_due(6), ["first", "second"]);
        assert_eq!(streams.remove(first), "first");
        let third = streams.insert("third", at(30));
        assert_eq!(visit_due(17), ["second"], "the third has the first one's place, not its timer");

        // The earlier visits are replaced, not kept beside the new ones.
        streams.reschedule(at(18));
        assert_eq!(visit_due(19), ["third", "second"]);
        assert!(visit_due(28).is_empty());
        assert_eq!(visit_due(30), ["third", "second"]);

        assert_eq!(streams.get(first), None);
        assert_eq!(streams.get(third), Some("third"));
        assert_eq!(streams.keys(), [third, second]);
    }
}
