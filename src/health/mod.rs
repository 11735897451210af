//! The health of the gateway, as reported by `/readyz` and the status page.
//!
//! Owns the state; the modules that know it set it. Knows neither HTTP nor Redis. Only some of it
//! decides readiness. Upstreams do not: a failing backend must not take the gateway, with every
//! open stream, out of rotation.

mod backend;
mod pace;
mod slowness;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

pub use self::backend::Backend;
pub use self::slowness::Slowness;
pub use self::trouble::{Trouble, date};

/// The health of the gateway. A cheap handle, shared by all threads.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    source: Part,
    // Redis Streams, if any route reads one.
    log_source: Part,
    has_log_source: AtomicBool,
    draining_since: OnceLock<SystemTime>,
    shortage: Mutex<Option<Trouble>>,
    backends: Mutex<Backends>,
    // Problems of certificates, by the address of the listener.
    certificates: Mutex<BTreeMap<String, String>>,
    reload: Mutex<Option<Trouble>>,
    slow_readers: Mutex<Option<Trouble>>,
}

/// Keyed by route and upstream.
type Backends = HashMap<(Box<str>, Box<str>), Weak<Backend>>;

/// The health of one event source.
#[derive(Debug, Default)]
struct Part {
    is_ready: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
}

/// A readiness check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, which `?exclude=` accepts.
    pub name: &'static str,
    /// Whether it passes.
    pub passes: bool,
    /// Why it fails, or a problem that does not fail it.
    pub detail: Option<String>,
}

/// A problem that does not make the gateway unready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What has the problem.
    pub about: String,
    /// The problem, and since when.
    pub detail: String,
}

impl Part {
    fn set_ready(&self, is_ready: bool) {
        // Load before store: this runs with every batch of events.
        if self.is_ready.load(Ordering::Relaxed) != is_ready {
            if is_ready {
                *lock(&self.trouble) = None;
            }
            self.is_ready.store(is_ready, Ordering::Relaxed);
        }
    }

    /// The current problem. A source that is ready may have a recent one, such as a channel name
    /// that Redis rejects.
    fn trouble(&self) -> Option<Trouble> {
        let is_ready = self.is_ready.load(Ordering::Relaxed);
        let trouble = lock(&self.trouble).clone();
        trouble.filter(|trouble| !is_ready || trouble.is_recent(SystemTime::now()))
    }

    fn failed(&self, kind: &'static str, error: &str) {
        let now = SystemTime::now();
        let is_ready = self.is_ready.load(Ordering::Relaxed);
        match &mut *lock(&self.trouble) {
            Some(trouble) if !is_ready || trouble.is_recent(now) => trouble.again(kind, error, now),
            none => *none = Some(Trouble::new(kind, error, now)),
        }
    }
}

impl Health {
    /// Sets whether the source is connected and all subscriptions are active.
    pub fn set_source_ready(&self, is_ready: bool) {
        self.0.source.set_ready(is_ready);
    }

    /// Records a failure of the source.
    pub fn source_failed(&self, kind: &'static str, error: &str) {
        self.0.source.failed(kind, error);
    }

    /// Sets whether the source of Redis Streams is connected and reads every stream.
    pub fn set_log_source_ready(&self, is_ready: bool) {
        self.0.has_log_source.store(true, Ordering::Relaxed);
        self.0.log_source.set_ready(is_ready);
    }

    /// Records a failure of the source of Redis Streams.
    pub fn log_source_failed(&self, kind: &'static str, error: &str) {
        self.0.log_source.failed(kind, error);
    }

    /// Records that the drain has begun. It cannot be undone.
    pub fn set_draining(&self) {
        self.0.draining_since.get_or_init(SystemTime::now);
    }

    /// Sets or clears the shortage of file descriptors.
    pub fn set_shortage(&self, shortage: Option<Trouble>) {
        *lock(&self.0.shortage) = shortage;
    }

    /// The health of an upstream of a route, shared by all callers.
    pub fn backend(&self, route: &str, upstream: &str) -> Arc<Backend> {
        let mut backends = lock(&self.0.backends);
        let key = (route.into(), upstream.into());
        if let Some(backend) = backends.get(&key).and_then(Weak::upgrade) {
            return backend;
        }
        let backend = Arc::new(Backend::new(route, upstream));
        backends.insert(key, Arc::downgrade(&backend));
        backend
    }

    /// All upstreams that are in use.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        let mut backends = lock(&self.0.backends);
        backends.retain(|_, backend| backend.strong_count() > 0);
        backends.values().filter_map(Weak::upgrade).collect()
    }

    /// Sets or clears the problem of a listener's certificate.
    pub fn set_certificate(&self, listener: &str, problem: Option<String>) {
        let mut certificates = lock(&self.0.certificates);
        match problem {
            Some(problem) => drop(certificates.insert(listener.to_owned(), problem)),
            None => drop(certificates.remove(listener)),
        }
    }

    /// Records the result of a configuration reload; `Err`: why the old one stays.
    pub fn set_reload(&self, result: Result<(), String>) {
        let trouble = result.err().map(|e| Trouble::new("reload", e, SystemTime::now()));
        *lock(&self.0.reload) = trouble;
    }

    /// Sets or clears the problem that streams are closed because their clients read too slowly.
    pub fn set_slow_readers(&self, trouble: Option<Trouble>) {
        *lock(&self.0.slow_readers) = trouble;
    }

    /// Whether all sources are ready.
    pub fn is_source_ready(&self) -> bool {
        let Facts { source, log_source, has_log_source, .. } = &*self.0;
        source.is_ready.load(Ordering::Relaxed)
            && (!has_log_source.load(Ordering::Relaxed)
                || log_source.is_ready.load(Ordering::Relaxed))
    }

    /// Whether the gateway is draining.
    pub fn is_draining(&self) -> bool {
        self.0.draining_since.get().is_some()
    }

    /// The readiness checks.
    pub fn checks(&self) -> [Check; 3] {
        let draining = self.0.draining_since.get();
        let draining =
            draining.map(|since| format!("this gateway is stopping; since {}", date(*since)));
        let shortage = lock(&self.0.shortage).as_ref().map(ToString::to_string);
        [
            Check { name: "redis", passes: self.is_source_ready(), detail: self.source_trouble() },
            Check { name: "drain", passes: draining.is_none(), detail: draining },
            Check { name: "descriptors", passes: shortage.is_none(), detail: shortage },
        ]
    }

    fn source_trouble(&self) -> Option<String> {
        let parts = [(&self.0.source, ""), (&self.0.log_source, "Redis Streams: ")];
        let troubles =
            parts.into_iter().filter_map(|(part, what)| Some(format!("{what}{}", part.trouble()?)));
        let troubles = troubles.collect::<Vec<_>>().join("; ");
        match (troubles.is_empty(), self.is_source_ready()) {
            (false, _) => Some(troubles),
            (true, true) => None,
            (true, false) => Some("not connected yet".to_owned()),
        }
    }

    /// All problems that do not affect readiness.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |about: String, detail: String| warnings.push(Warning { about, detail });
        let mut backends = self.backends();
        backends.sort_by(|a, b| (a.route(), a.upstream()).cmp(&(b.route(), b.upstream())));
        for backend in backends {
            for trouble in backend.troubles() {
                warn(format!("backend {} of {}", backend.upstream(), backend.route()), trouble);
            }
        }
        for (listener, problem) in &*lock(&self.0.certificates) {
            warn(format!("certificate of {listener}"), problem.clone());
        }
        for (about, trouble) in
            [("configuration", &self.0.reload), ("slow readers", &self.0.slow_readers)]
        {
            if let Some(trouble) = &*lock(trouble) {
                warn(about.to_owned(), trouble.to_string());
            }
        }
        warnings
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::Health;

    #[test]
    fn a_failed_source_shows_its_error_until_it_is_ready_again() {
        let health = Health::default();
        let redis = || {
            let [redis, ..] = health.checks();
            (redis.passes, redis.detail.unwrap_or_default())
        };
        assert_eq!(redis(), (false, "not connected yet".to_owned()));
        health.source_failed("connection", "refused");
        assert!(redis().1.starts_with("connection: refused; since "), "{:?}", redis());
        health.source_failed("auth", "WRONGPASS");
        assert!(redis().1.starts_with("auth: WRONGPASS; since "), "{:?}", redis());
        health.set_source_ready(true);
        assert_eq!(redis(), (true, String::new()));

        health.set_log_source_ready(false);
        health.log_source_failed("timeout", "no reply");
        assert!(!redis().0 && redis().1.starts_with("Redis Streams: timeout: no reply; since "));
        health.set_log_source_ready(true);
        assert_eq!(redis(), (true, String::new()));
    }

    #[test]
    fn a_backend_is_shared_and_removed_with_its_last_user() {
        let health = Health::default();
        let (one, same) = (health.backend("/", "http://b"), health.backend("/", "http://b"));
        let other = health.backend("/", "http://c");
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        other.failed("connect", "refused", Instant::now());
        let warnings = health.warnings();
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].about, "backend http://c of /");
        assert!(warnings[0].detail.starts_with("connect: refused; since "));
        assert_eq!(health.backends().len(), 2);
        drop((other, one));
        assert_eq!(health.backends().len(), 1);
        assert_eq!(health.warnings(), []);
    }
}
