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
use super::outages::{Outage, Outages};
use super::response_times::ResponseTimes;
use super::waiting::{BackendQueue, BackendSilence, RequestWait};
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
    waiting: Arc<BackendQueue>,
    state: Mutex<BackendState>,
}

/// How the TLS handshake with an upstream is made.
#[derive(Clone, Debug)]
pub struct BackendTls {
    /// Its trusted certificates, and the protocols that it offers (ALPN). If it offers any, the upstream has to
    /// choose one.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate must have.
    pub name: ServerName<'static>,
}

#[derive(Debug, Default)]
struct BackendState {
    failing: Option<Failing>,
    tls: Option<BackendTls>,
    // Since when it has sent no response although many requests wait, and the incident for that.
    hang: Option<(Instant, Incident)>,
    outages: Outages,
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
            waiting: Arc::new(BackendQueue::new(Instant::now())),
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

    /// Sets how the TLS handshake with it is made. A probe makes one, too: a TCP connection alone does not prove that
    /// TLS works.
    pub fn set_tls(&self, tls: BackendTls) {
        self.lock().tls = Some(tls);
    }

    /// How the TLS handshake with it is made; `None` without TLS, or where its host cannot be the name in a
    /// certificate.
    pub fn tls(&self) -> Option<BackendTls> {
        self.lock().tls.clone()
    }

    /// Counts a request that waits for a response, until the returned value is dropped.
    pub fn wait(&self, now: Instant) -> RequestWait {
        RequestWait::new(Arc::clone(&self.waiting), now)
    }

    /// How many requests wait for a response, and how long there has been none.
    pub fn silence(&self, now: Instant) -> BackendSilence {
        self.waiting.silence(now)
    }

    /// When it failed: the last outages, the newest first.
    pub fn outages(&self) -> Vec<Outage> {
        self.lock().outages.list()
    }

    /// Whether to probe it with a connection. Not if TLS is required and no handshake is possible.
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
        let hang = state.hang.as_ref().map(|(_, incident)| incident.to_string());
        let slow =
            state.response_times().filter_map(|(_, response_times)| response_times.incident());
        failing.into_iter().chain(hang).chain(slow).collect()
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
        state.watch_silence(self.silence(now), (route, upstream), now);
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
        if state.hang.is_none() {
            state.outages.end(SystemTime::now());
        }
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

    /// Logs when it begins to hang, and when that is over.
    fn watch_silence(
        &mut self,
        silence: BackendSilence,
        (route, upstream): (&str, &str),
        now: Instant,
    ) {
        let BackendSilence { requests, lasts } = silence;
        match (&mut self.hang, silence.is_hang()) {
            (None, true) => {
                tracing::warn!(
                    route,
                    upstream,
                    requests,
                    silent = ?truncate_to_millis(lasts),
                    "the backend hangs: it responds to none of the requests that wait for it"
                );
                let since = SystemTime::now().checked_sub(lasts).unwrap_or_else(SystemTime::now);
                self.outages.begin(since);
                self.outages.fail("hangs", &hang_text(requests));
                let since_then = now.checked_sub(lasts).unwrap_or(now);
                self.hang = Some((since_then, Incident::new("hangs", hang_text(requests), since)));
            }
            (Some((_, incident)), true) => incident.restate(hang_text(requests)),
            (Some((since, _)), false) => {
                let lasted = truncate_to_millis(now - *since);
                tracing::info!(
                    route,
                    upstream,
                    requests,
                    ?lasted,
                    "the backend hangs no longer: it has responded, or only few requests wait for it"
                );
                self.hang = None;
                if self.failing.is_none() {
                    self.outages.end(SystemTime::now());
                }
            }
            (None, false) => {}
        }
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
        self.outages.begin(wall);
        self.outages.fail(kind, error);
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

fn hang_text(requests: usize) -> String {
    format!("it hangs: {requests} requests wait, and none is responded to")
}

/// Truncates to milliseconds, for the log.
fn truncate_to_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
