//! One upstream of a route, as all shards together know it: whether it fails, and whether it is slow
//! ([`Slowness`]).
//!
//! Decides what is logged of it: the first failure of each kind at once, further ones every ten seconds
//! with a count, and when it responds again. A response costs one load while all is well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::slowness::Slowness;
use super::trouble::Trouble;
use crate::log_limit::LineLimit;

/// It has recovered when it responded, and did not fail for so long: one that does both at a time is
/// not told of every time.
const RECOVERED_AFTER: Duration = Duration::from_secs(5);
/// A failure that no request has repeated for so long is over: nothing is known of it any more. Not of one
/// that cannot be connected to, which is tried until it can be.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// An upstream, shared by the shards, by `/readyz?verbose` and the status page.
#[derive(Debug)]
pub struct Backend {
    route: Box<str>,
    upstream: Box<str>,
    is_failing: AtomicBool,
    // Since the last failure.
    has_responded: AtomicBool,
    is_unreachable: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failing: Option<Failing>,
    kinds: Vec<Kind>,
    // By the place of the route that wants to know, for as long as it is there.
    slowness: Vec<(usize, Weak<Slowness>)>,
}

#[derive(Debug)]
struct Failing {
    trouble: Trouble,
    since: Instant,
    last: Instant,
    // When it responded first, after the last failure.
    responded: Option<Instant>,
}

/// How a failure has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recovery {
    // From the first failure to the response; `None`: no request has reached it since.
    lasted: Option<Duration>,
    requests: u64,
}

/// Failures of one kind.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    error: String,
    held: LineLimit,
}

impl Backend {
    pub(super) fn new(route: &str, upstream: &str) -> Self {
        Self {
            route: route.into(),
            upstream: upstream.into(),
            is_failing: AtomicBool::new(false),
            has_responded: AtomicBool::new(false),
            is_unreachable: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// The path of its route.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Its address.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// A request failed there. `Some`: that is to be logged, and stands for so many others of its kind
    /// that were not.
    pub fn failed(&self, kind: &'static str, error: &str, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        self.has_responded.store(false, Ordering::Relaxed);
        self.is_failing.store(true, Ordering::Relaxed);
        state.fail(kind, error, now)
    }

    /// It has sent the head of a response.
    pub fn responded(&self) {
        if self.is_failing.load(Ordering::Relaxed) && !self.has_responded.load(Ordering::Relaxed) {
            self.responded_at(Instant::now());
        }
    }

    fn responded_at(&self, now: Instant) {
        let mut state = self.lock();
        if let Some(failing) = &mut state.failing {
            failing.responded = Some(now);
            self.has_responded.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a connection alone would show that it is back: not where the last one failed in TLS.
    pub fn awaits_connection(&self) -> bool {
        self.is_unreachable()
            && (!self.upstream.starts_with("https:") || self.lock().was_refused_by_the_system())
    }

    /// It could be connected to, without a request; gives back whether that is news.
    pub fn connected(&self) -> bool {
        let is_news = self.set_unreachable(false);
        self.responded();
        is_news
    }

    /// Whether it can be connected to; gives back whether that is news.
    pub fn set_unreachable(&self, is_unreachable: bool) -> bool {
        let known = &self.is_unreachable;
        known.load(Ordering::Relaxed) != is_unreachable
            && known.swap(is_unreachable, Ordering::Relaxed) != is_unreachable
    }

    /// Whether it could not be connected to when that was tried last.
    pub fn is_unreachable(&self) -> bool {
        self.is_unreachable.load(Ordering::Relaxed)
    }

    /// Whether it is slow to respond to the route at this `place` among the routes, whose `p99_warning`
    /// is `limit`; the same one for all shards.
    pub fn slowness(&self, place: usize, limit: Duration) -> Arc<Slowness> {
        let mut state = self.lock();
        let mut known = state.slowness().filter(|(known, _)| *known == place);
        if let Some((_, slowness)) = known.find(|(_, slowness)| slowness.limit() == limit) {
            return slowness;
        }
        drop(known);
        let new = Arc::new(Slowness::new(limit));
        state.slowness.push((place, Arc::downgrade(&new)));
        new
    }

    /// What is wrong with it, a sentence each.
    pub fn troubles(&self) -> Vec<String> {
        let state = self.lock();
        let failing = state.failing.as_ref().map(|failing| failing.trouble.to_string());
        let slow = state.slowness().filter_map(|(_, slowness)| slowness.trouble());
        failing.into_iter().chain(slow).collect()
    }

    /// Logs what was held back, and what has changed. Called once a second.
    pub fn tick(&self, now: Instant) {
        let (route, upstream) = (&*self.route, &*self.upstream);
        let mut state = self.lock();
        // First: its line counts what was held back.
        match self.recover(&mut state, now) {
            Some(Recovery { lasted: Some(lasted), requests }) => {
                tracing::info!(route, upstream, ?lasted, requests, "the backend responds again");
            }
            Some(Recovery { lasted: None, requests }) => {
                tracing::info!(
                    route,
                    upstream,
                    requests,
                    "no request has reached the backend for a minute: whether it still fails is not known"
                );
            }
            None => state.log_held_back(route, upstream, now),
        }
        state.slowness.retain(|(_, slowness)| slowness.strong_count() > 0);
        state.slowness().for_each(|(_, slowness)| slowness.tick(route, upstream));
    }

    /// Ends a failure that is over. The next one is logged at once.
    fn recover(&self, state: &mut State, now: Instant) -> Option<Recovery> {
        let is_unreachable = self.is_unreachable();
        let is_over = |failing: &mut Failing| {
            let wait = match failing.responded {
                Some(_) => RECOVERED_AFTER,
                None => FORGOTTEN_AFTER,
            };
            now >= failing.last + wait && (failing.responded.is_some() || !is_unreachable)
        };
        let Failing { trouble, since, responded, .. } = state.failing.take_if(is_over)?;
        self.is_failing.store(false, Ordering::Relaxed);
        self.has_responded.store(false, Ordering::Relaxed);
        state.kinds.clear();
        let lasted = responded.map(|responded| in_milliseconds(responded - since));
        Some(Recovery { lasted, requests: trouble.times() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of the routes that are still there, with their places.
    fn slowness(&self) -> impl Iterator<Item = (usize, Arc<Slowness>)> {
        self.slowness.iter().filter_map(|(place, slowness)| Some((*place, slowness.upgrade()?)))
    }

    /// Whether the last connection failed below TLS: the text of such an error has its number.
    fn was_refused_by_the_system(&self) -> bool {
        let mut kinds = self.kinds.iter();
        kinds.any(|kind| kind.name == "connect" && kind.error.contains("(os error "))
    }

    fn log_held_back(&mut self, route: &str, upstream: &str, now: Instant) {
        for Kind { name: kind, error, held } in &mut self.kinds {
            if let Some(requests) = held.due(now) {
                tracing::warn!(
                    route,
                    upstream,
                    kind,
                    error,
                    requests,
                    "the backend goes on failing"
                );
            }
        }
    }

    fn fail(&mut self, kind: &'static str, error: &str, now: Instant) -> Option<u64> {
        let wall = SystemTime::now();
        match &mut self.failing {
            Some(failing) => {
                failing.trouble.again(kind, error, wall);
                failing.last = now;
                failing.responded = None;
            }
            None => {
                let trouble = Trouble::new(kind, error, wall);
                self.failing = Some(Failing { trouble, since: now, last: now, responded: None });
            }
        }
        match self.kinds.iter_mut().find(|known| known.name == kind) {
            Some(known) => {
                error.clone_into(&mut known.error);
                known.held.pass(now)
            }
            None => {
                self.kinds.push(Kind {
                    name: kind,
                    error: error.to_owned(),
                    held: LineLimit::new(now),
                });
                Some(0)
            }
        }
    }
}

/// Finer than anybody wants to read.
fn in_milliseconds(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Backend, FORGOTTEN_AFTER, RECOVERED_AFTER, Recovery};
    use crate::log_limit::LOG_INTERVAL;

    #[test]
    fn failures_are_limited_by_kind_and_the_way_back_waits_for_quiet() {
        let (backend, start) = (Backend::new("/", "http://b:80"), Instant::now());
        let recovered = |now| backend.recover(&mut backend.lock(), now);
        assert_eq!(backend.troubles(), Vec::<String>::new());
        assert_eq!(backend.failed("connect", "refused", start), Some(0));
        for _ in 0..2000 {
            assert_eq!(backend.failed("connect", "refused", start), None);
        }
        assert_eq!(backend.failed("exchange", "reset", start), Some(0), "another kind");
        assert_eq!(backend.failed("connect", "refused", start + LOG_INTERVAL), Some(2000));
        assert!(backend.troubles()[0].starts_with("connect: refused; since "));
        assert!(backend.troubles()[0].contains(", 2003 times, "), "{:?}", backend.troubles());

        let last = start + LOG_INTERVAL;
        assert_eq!(recovered(last + RECOVERED_AFTER), None, "it has not responded");
        backend.responded_at(last);
        assert_eq!(recovered(last + RECOVERED_AFTER / 2), None, "not yet");
        backend.failed("connect", "refused", last);
        assert_eq!(recovered(last + RECOVERED_AFTER), None, "it failed behind that response");
        let responds = last + Duration::from_micros(2_000_999);
        backend.responded_at(responds);
        let lasted = Some(LOG_INTERVAL + Duration::from_secs(2));
        let recovery = Recovery { lasted, requests: 2004 };
        assert_eq!(recovered(last + RECOVERED_AFTER), Some(recovery));
        assert_eq!(backend.troubles(), Vec::<String>::new());
        assert_eq!(recovered(last + 9 * RECOVERED_AFTER), None);
    }

    #[test]
    fn a_new_outage_is_logged_at_once_after_the_last_one_is_over() {
        let (backend, start) = (Backend::new("/", "http://b:80"), Instant::now());
        assert_eq!(backend.failed("connect", "refused", start), Some(0));
        assert_eq!(backend.failed("connect", "refused", start), None);
        backend.responded_at(start);
        backend.tick(start + RECOVERED_AFTER);
        assert_eq!(backend.failed("connect", "refused", start + RECOVERED_AFTER), Some(0));
    }

    #[test]
    fn without_requests_a_failure_is_forgotten_unless_it_cannot_be_connected_to() {
        let (backend, start) = (Backend::new("/", "http://b:80"), Instant::now());
        backend.failed("exchange", "reset", start);
        backend.tick(start + FORGOTTEN_AFTER / 2);
        assert_eq!(backend.troubles().len(), 1);
        backend.tick(start + FORGOTTEN_AFTER);
        assert_eq!(backend.troubles(), Vec::<String>::new());

        assert!(backend.set_unreachable(true));
        backend.failed("connect", "refused", start);
        backend.tick(start + 2 * FORGOTTEN_AFTER);
        assert_eq!(backend.troubles().len(), 1);
        assert!(backend.connected(), "that is news");
        assert!(!backend.connected());
        backend.tick(start + 2 * FORGOTTEN_AFTER);
        assert_eq!(backend.troubles(), Vec::<String>::new());
    }

    #[test]
    fn more_than_one_slow_response_in_a_hundred_is_slow() {
        let backend = Backend::new("/", "http://b:80");
        let slowness = backend.slowness(0, Duration::from_millis(500));
        // Routes of the same path that do not ask, or ask for something else.
        let _others = [(1, 500), (0, 900), (2, 900)]
            .map(|(place, limit)| backend.slowness(place, Duration::from_millis(limit)));
        let respond = |fast, slow| {
            for response in 0..fast + slow {
                if response < slow {
                    slowness.is_late();
                }
                slowness.responded();
            }
            backend.tick(Instant::now());
            backend.troubles()
        };
        assert_eq!(respond(396, 4), Vec::<String>::new(), "one in a hundred");
        let slow = respond(0, 1);
        assert_eq!(slow.len(), 1, "{slow:?}");
        assert!(
            slow[0].starts_with("slow: 5 of 401 responses in a minute took over 500ms"),
            "{slow:?}"
        );
        for _ in 0..58 {
            assert_eq!(respond(0, 0).len(), 1);
        }
        respond(0, 0);
        assert_eq!(respond(0, 0), Vec::<String>::new(), "a minute later");
    }

    #[test]
    fn the_slowness_for_a_route_is_one_for_all_shards_and_ends_with_the_route() {
        let backend = Backend::new("/", "http://b:80");
        let limit = Duration::from_millis(500);
        let (one, same) = (backend.slowness(0, limit), backend.slowness(0, limit));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &backend.slowness(1, limit)));
        (0..5).for_each(|_| one.is_late());
        backend.tick(Instant::now());
        assert_eq!(backend.troubles().len(), 1);
        drop((one, same));
        assert_eq!(backend.troubles(), Vec::<String>::new(), "nobody asks any more");
        backend.tick(Instant::now());
        assert!(backend.lock().slowness.is_empty());
    }

    #[test]
    fn whether_it_can_be_reached_is_news_once() {
        let backend = Backend::new("/", "http://b:80");
        let news = [false, true, true, false].map(|is_down| backend.set_unreachable(is_down));
        assert_eq!(news, [false, true, false, true]);
    }
}
