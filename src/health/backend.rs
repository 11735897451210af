//! The health of one upstream of a route over all shards: its failures, and its response times
//! ([`ResponseTimes`]).
//!
//! Decides what is logged: the first failure of each kind at once, further ones every ten seconds
//! with a count, and the recovery. While the upstream is healthy, a response costs one atomic load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::time::Instant;

use super::incident::Incident;
use super::response_times::ResponseTimes;
use crate::log_limit::LineLimit;

/// An upstream has recovered when it has responded, and not failed for this long. Otherwise one
/// that alternates between both would be logged each time.
const RECOVERED_AFTER: Duration = Duration::from_secs(5);
/// A failure that was neither repeated nor followed by a response for this long is dropped: the
/// state is then unknown. An unreachable upstream is not dropped; it is probed until it accepts a
/// connection.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The health of an upstream, shared by the shards, `/readyz?verbose` and the status page.
#[derive(Debug)]
pub struct BackendHealth {
    route: Box<str>,
    upstream: Box<str>,
    is_failing: AtomicBool,
    // Whether it has responded since the last failure.
    has_responded: AtomicBool,
    is_unreachable: AtomicBool,
    state: Mutex<BackendState>,
}

/// How the TLS handshake with an upstream is made.
#[derive(Clone, Debug)]
pub struct BackendTls {
    /// Whom it trusts, and the protocols that it offers (ALPN): the upstream has to choose one of them, if there are
    /// any.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate must have.
    pub name: ServerName<'static>,
}

#[derive(Debug, Default)]
struct BackendState {
    failing: Option<Failing>,
    tls: Option<BackendTls>,
    kinds: Vec<FailureKind>,
    // By the index of the route; weak, so that it ends with the route.
    response_times: Vec<(usize, Weak<ResponseTimes>)>,
}

#[derive(Debug)]
struct Failing {
    incident: Incident,
    since: Instant,
    last: Instant,
    // The first response after the last failure.
    responded: Option<Instant>,
}

/// The end of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recovery {
    // From the first failure to the response; `None`: no request was sent since the last failure.
    lasted: Option<Duration>,
    requests: u64,
}

/// The failures of one kind.
#[derive(Debug)]
struct FailureKind {
    name: &'static str,
    error: String,
    held: LineLimit,
}

impl BackendHealth {
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

    /// The label of the route.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The address of the upstream.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Records a failed request. `Some`: log it, with the number of failures of this kind that were
    /// suppressed since the last line.
    pub fn failed(&self, kind: &'static str, error: &str, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        self.has_responded.store(false, Ordering::Relaxed);
        self.is_failing.store(true, Ordering::Relaxed);
        state.fail(kind, error, now)
    }

    /// Records a response head.
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

    /// Sets how the TLS handshake with it is made: for a probe, as a connection alone proves nothing of TLS.
    pub fn set_tls(&self, tls: BackendTls) {
        self.lock().tls = Some(tls);
    }

    /// How the TLS handshake with it is made; `None` without TLS, or where there is no name for it.
    pub fn tls(&self) -> Option<BackendTls> {
        self.lock().tls.clone()
    }

    /// Whether it is to be probed with a connection. Not if no handshake with it is possible.
    pub fn needs_probe(&self) -> bool {
        self.is_unreachable() && (!self.upstream.starts_with("https:") || self.tls().is_some())
    }

    /// Records a successful probe; returns whether the upstream was unreachable before.
    pub fn connected(&self) -> bool {
        let is_news = self.set_unreachable(false);
        self.responded();
        is_news
    }

    /// Sets whether no connection can be opened; returns whether that changed.
    pub fn set_unreachable(&self, is_unreachable: bool) -> bool {
        let known = &self.is_unreachable;
        known.load(Ordering::Relaxed) != is_unreachable
            && known.swap(is_unreachable, Ordering::Relaxed) != is_unreachable
    }

    /// Whether the last attempt to connect failed.
    pub fn is_unreachable(&self) -> bool {
        self.is_unreachable.load(Ordering::Relaxed)
    }

    /// The response times on the route with index `route_index`, whose `p99_warning` is `limit`.
    /// Shared by all shards.
    pub fn response_times(&self, route_index: usize, limit: Duration) -> Arc<ResponseTimes> {
        let mut state = self.lock();
        let mut known = state.response_times().filter(|(known, _)| *known == route_index);
        if let Some((_, response_times)) =
            known.find(|(_, response_times)| response_times.limit() == limit)
        {
            return response_times;
        }
        drop(known);
        let new = Arc::new(ResponseTimes::new(limit));
        state.response_times.push((route_index, Arc::downgrade(&new)));
        new
    }

    /// The current problems, one line each.
    pub fn incidents(&self) -> Vec<String> {
        let state = self.lock();
        let failing = state.failing.as_ref().map(|failing| failing.incident.to_string());
        let slow =
            state.response_times().filter_map(|(_, response_times)| response_times.incident());
        failing.into_iter().chain(slow).collect()
    }

    /// Logs suppressed failures, recoveries, and changes of the response times. Called once a
    /// second.
    pub fn tick(&self, now: Instant) {
        let (route, upstream) = (&*self.route, &*self.upstream);
        let mut state = self.lock();
        // Before the suppressed failures: its line counts them too.
        match self.recover(&mut state, now) {
            Some(Recovery { lasted: Some(lasted), requests }) => {
                tracing::info!(route, upstream, ?lasted, requests, "the backend responds again");
            }
            Some(Recovery { lasted: None, requests }) => {
                tracing::info!(
                    route,
                    upstream,
                    requests,
                    "no request to the backend for a minute: whether it still fails is unknown"
                );
            }
            None => state.log_held_back(route, upstream, now),
        }
        state.response_times.retain(|(_, response_times)| response_times.strong_count() > 0);
        state.response_times().for_each(|(_, response_times)| response_times.tick(route, upstream));
    }

    /// Ends the current failure if it is over. The next one is then logged at once.
    fn recover(&self, state: &mut BackendState, now: Instant) -> Option<Recovery> {
        let is_unreachable = self.is_unreachable();
        let is_over = |failing: &mut Failing| {
            let wait = match failing.responded {
                Some(_) => RECOVERED_AFTER,
                None => FORGOTTEN_AFTER,
            };
            now >= failing.last + wait && (failing.responded.is_some() || !is_unreachable)
        };
        let Failing { incident, since, responded, .. } = state.failing.take_if(is_over)?;
        self.is_failing.store(false, Ordering::Relaxed);
        self.has_responded.store(false, Ordering::Relaxed);
        state.kinds.clear();
        let lasted = responded.map(|responded| truncate_to_millis(responded - since));
        Some(Recovery { lasted, requests: incident.times() })
    }

    fn lock(&self) -> MutexGuard<'_, BackendState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BackendState {
    /// The response times of the current routes, with the index of each route.
    fn response_times(&self) -> impl Iterator<Item = (usize, Arc<ResponseTimes>)> {
        self.response_times.iter().filter_map(|(route_index, response_times)| {
            Some((*route_index, response_times.upgrade()?))
        })
    }

    fn log_held_back(&mut self, route: &str, upstream: &str, now: Instant) {
        for FailureKind { name: kind, error, held } in &mut self.kinds {
            if let Some(requests) = held.due(now) {
                tracing::warn!(route, upstream, kind, error, requests, "the backend keeps failing");
            }
        }
    }

    fn fail(&mut self, kind: &'static str, error: &str, now: Instant) -> Option<u64> {
        let wall = SystemTime::now();
        match &mut self.failing {
            Some(failing) => {
                failing.incident.recur(kind, error, wall);
                failing.last = now;
                failing.responded = None;
            }
            None => {
                let incident = Incident::new(kind, error, wall);
                self.failing = Some(Failing { incident, since: now, last: now, responded: None });
            }
        }
        match self.kinds.iter_mut().find(|known| known.name == kind) {
            Some(known) => {
                error.clone_into(&mut known.error);
                known.held.pass(now)
            }
            None => {
                self.kinds.push(FailureKind {
                    name: kind,
                    error: error.to_owned(),
                    held: LineLimit::new(now),
                });
                Some(0)
            }
        }
    }
}

/// Truncates to milliseconds, for the log.
fn truncate_to_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BackendHealth, FORGOTTEN_AFTER, RECOVERED_AFTER, Recovery};
    use crate::log_limit::LOG_INTERVAL;

    #[test]
    fn failures_are_rate_limited_by_kind_and_recovery_needs_five_quiet_seconds() {
        let (backend, start) = (BackendHealth::new("/", "http://b:80"), Instant::now());
        let recovered = |now| backend.recover(&mut backend.lock(), now);
        assert_eq!(backend.incidents(), Vec::<String>::new());
        assert_eq!(backend.failed("connect", "refused", start), Some(0));
        for _ in 0..2000 {
            assert_eq!(backend.failed("connect", "refused", start), None);
        }
        assert_eq!(backend.failed("exchange", "reset", start), Some(0), "another kind");
        assert_eq!(backend.failed("connect", "refused", start + LOG_INTERVAL), Some(2000));
        assert!(backend.incidents()[0].starts_with("connect: refused; since "));
        assert!(backend.incidents()[0].contains(", 2003 times, "), "{:?}", backend.incidents());

        let last = start + LOG_INTERVAL;
        assert_eq!(recovered(last + RECOVERED_AFTER), None, "no response yet");
        backend.responded_at(last);
        assert_eq!(recovered(last + RECOVERED_AFTER / 2), None, "too early");
        backend.failed("connect", "refused", last);
        assert_eq!(recovered(last + RECOVERED_AFTER), None, "failed after the response");
        let responds = last + Duration::from_micros(2_000_999);
        backend.responded_at(responds);
        let lasted = Some(LOG_INTERVAL + Duration::from_secs(2));
        let recovery = Recovery { lasted, requests: 2004 };
        assert_eq!(recovered(last + RECOVERED_AFTER), Some(recovery));
        assert_eq!(backend.incidents(), Vec::<String>::new());
        assert_eq!(recovered(last + 9 * RECOVERED_AFTER), None);
    }

    #[test]
    fn a_new_outage_after_a_recovery_is_logged_at_once() {
        let (backend, start) = (BackendHealth::new("/", "http://b:80"), Instant::now());
        assert_eq!(backend.failed("connect", "refused", start), Some(0));
        assert_eq!(backend.failed("connect", "refused", start), None);
        backend.responded_at(start);
        backend.tick(start + RECOVERED_AFTER);
        assert_eq!(backend.failed("connect", "refused", start + RECOVERED_AFTER), Some(0));
    }

    #[test]
    fn without_requests_a_failure_expires_unless_the_backend_is_unreachable() {
        let (backend, start) = (BackendHealth::new("/", "http://b:80"), Instant::now());
        backend.failed("exchange", "reset", start);
        backend.tick(start + FORGOTTEN_AFTER / 2);
        assert_eq!(backend.incidents().len(), 1);
        backend.tick(start + FORGOTTEN_AFTER);
        assert_eq!(backend.incidents(), Vec::<String>::new());

        assert!(backend.set_unreachable(true));
        backend.failed("connect", "refused", start);
        backend.tick(start + 2 * FORGOTTEN_AFTER);
        assert_eq!(backend.incidents().len(), 1);
        assert!(backend.connected(), "it was unreachable");
        assert!(!backend.connected());
        backend.tick(start + 2 * FORGOTTEN_AFTER);
        assert_eq!(backend.incidents(), Vec::<String>::new());
    }

    #[test]
    fn a_backend_is_slow_above_one_percent_of_slow_responses() {
        let backend = BackendHealth::new("/", "http://b:80");
        let response_times = backend.response_times(0, Duration::from_millis(500));
        // Other routes of the same path, with other limits or indexes.
        let _others = [(1, 500), (0, 900), (2, 900)].map(|(route_index, limit)| {
            backend.response_times(route_index, Duration::from_millis(limit))
        });
        let respond = |fast, slow| {
            for response in 0..fast + slow {
                if response < slow {
                    response_times.record_slow();
                }
                response_times.record_response();
            }
            backend.tick(Instant::now());
            backend.incidents()
        };
        assert_eq!(respond(396, 4), Vec::<String>::new(), "exactly 1%");
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
    fn response_times_are_shared_by_all_shards_and_end_with_the_route() {
        let backend = BackendHealth::new("/", "http://b:80");
        let limit = Duration::from_millis(500);
        let (one, same) = (backend.response_times(0, limit), backend.response_times(0, limit));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &backend.response_times(1, limit)));
        (0..5).for_each(|_| one.record_slow());
        backend.tick(Instant::now());
        assert_eq!(backend.incidents().len(), 1);
        drop((one, same));
        assert_eq!(backend.incidents(), Vec::<String>::new(), "the route is gone");
        backend.tick(Instant::now());
        assert!(backend.lock().response_times.is_empty());
    }

    #[test]
    fn set_unreachable_reports_changes_only() {
        let backend = BackendHealth::new("/", "http://b:80");
        let changes = [false, true, true, false].map(|is_down| backend.set_unreachable(is_down));
        assert_eq!(changes, [false, true, false, true]);
    }
}
