//! Streams of others that the rounds of a shard look after, beside its own subscribers.
//!
//! A stream that comes from elsewhere has no subscription here, but the same needs: somebody has to
//! notice that it is quiet, or that nothing of it can be written, without a timer for each.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use slab::Slab;
use tokio::time::Instant;

use super::timers::{StreamKey, Timers};

/// A stream that is looked after.
pub trait Watch {
    /// Looks after it; answers when to look again, or `None` for never.
    fn visit(&self, now: Instant) -> Option<Instant>;

    /// The gateway is stopping: the stream should end in good order, soon.
    fn drain(&self);
}

/// The watched streams of one shard: a cheap handle.
#[derive(Clone)]
pub(super) struct Watched(Rc<Inner>);

struct Inner {
    streams: RefCell<Slab<(StreamKey, Rc<dyn Watch>)>>,
    rounds: RefCell<Timers>,
    generations: Cell<u32>,
}

/// A place among the watched streams; given back when it is dropped.
#[must_use]
pub struct WatchGuard {
    watched: Watched,
    place: usize,
}

impl Watched {
    pub(super) fn new(now: Instant) -> Self {
        Self(Rc::new(Inner {
            streams: RefCell::default(),
            rounds: RefCell::new(Timers::new(now)),
            generations: Cell::new(0),
        }))
    }

    /// Looks after `stream`, from `first` on.
    pub(super) fn watch(&self, stream: Rc<dyn Watch>, first: Instant) -> WatchGuard {
        let mut streams = self.0.streams.borrow_mut();
        let place = streams.vacant_key();
        let key = StreamKey::new(place, &self.0.generations);
        streams.insert((key, stream));
        self.0.rounds.borrow_mut().add(key, first);
        WatchGuard { watched: self.clone(), place }
    }

    /// Visits those whose time has come.
    pub(super) fn make_round(&self, now: Instant) {
        loop {
            let due = self.0.rounds.borrow_mut().next_due(now);
            let Some(due) = due else { break };
            for key in due {
                if let Some(next) = self.stream(key).and_then(|stream| stream.visit(now)) {
                    self.0.rounds.borrow_mut().add(key, next);
                }
            }
        }
    }

    /// All of them.
    pub(super) fn keys(&self) -> impl Iterator<Item = StreamKey> + use<> {
        let streams = self.0.streams.borrow();
        let keys = streams.iter().map(|(_, &(key, _))| key);
        keys.collect::<Vec<_>>().into_iter()
    }

    /// Tells a stream, if it is still there, that the gateway is stopping.
    pub(super) fn drain(&self, key: StreamKey) {
        if let Some(stream) = self.stream(key) {
            stream.drain();
        }
    }

    fn stream(&self, key: StreamKey) -> Option<Rc<dyn Watch>> {
        let streams = self.0.streams.borrow();
        let stream = streams.get(key.place()).filter(|(own, _)| *own == key);
        stream.map(|(_, stream)| Rc::clone(stream))
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        drop(self.watched.0.streams.borrow_mut().remove(self.place));
    }
}

impl fmt::Debug for WatchGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchGuard").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Watch, Watched};

    #[derive(Default)]
    struct Counting {
        visits: Cell<u32>,
        is_draining: Cell<bool>,
    }

    impl Watch for Counting {
        fn visit(&self, now: Instant) -> Option<Instant> {
            self.visits.set(self.visits.get() + 1);
            Some(now + Duration::from_secs(10))
        }

        fn drain(&self) {
            self.is_draining.set(true);
        }
    }

    #[test]
    fn a_stream_is_visited_when_it_asked_for_it_and_no_more_when_it_is_gone() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let watched = Watched::new(start);
        let streams = [Rc::new(Counting::default()), Rc::new(Counting::default())];
        let [first, second] = streams.clone().map(|stream| watched.watch(stream, at(5)));
        let visits = || streams.each_ref().map(|stream| stream.visits.get());

        watched.make_round(at(4));
        assert_eq!(visits(), [0, 0]);
        watched.make_round(at(6));
        assert_eq!(visits(), [1, 1]);
        drop(first);
        let third = Rc::new(Counting::default());
        let _place_of_the_first = watched.watch(third.clone(), at(30));
        watched.make_round(at(17));
        assert_eq!((visits(), third.visits.get()), ([1, 2], 0));

        watched.keys().for_each(|key| watched.drain(key));
        assert!(streams[1].is_draining.get() && third.is_draining.get());
        assert!(!streams[0].is_draining.get(), "it is gone");
        drop(second);
    }
}
