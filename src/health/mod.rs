//! The health of the gateway, as reported by `/readyz` and the status page.
//!
//! Owns the state; the modules that know it set it. Knows neither HTTP nor Redis. Only some of it
//! decides readiness. Upstreams do not: a failing backend must not take the gateway, with every
//! open stream, out of rotation.

mod backend;
mod check;
mod fleet;
mod incident;
mod latency_window;
mod nodes;
mod outages;
mod recurring;
mod response_times;
mod servers;
mod source;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use tokio::time::Instant;

pub use self::backend::{BackendHealth, BackendTls};
pub use self::check::{ReadinessCheck, Warning};
use self::fleet::FleetHealth;
pub use self::incident::{Incident, date};
use self::nodes::NodeHealths;
pub use self::nodes::NodeState;
pub use self::outages::Outage;
use self::recurring::RecurringProblems;
pub use self::response_times::ResponseTimes;
use self::servers::ServerHealths;
use self::source::SourceHealth;
pub use self::waiting::{BackendSilence, RequestWait};

/// The health of the gateway. A cheap handle, shared by all threads.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<HealthState>);

#[derive(Debug, Default)]
struct HealthState {
    source: SourceHealth,
    // Redis Streams, if any route reads one.
    log_source: SourceHealth,
    // The recording of channels, if a route has recorded channels.
    recording: SourceHealth,
    sharded_recording: SourceHealth,
    // The source is the bus inside the gateway: no Redis is involved.
    is_source_embedded: AtomicBool,
    // The revocations that Redis keeps, if there is a control channel.
    revocations: SourceHealth,
    fleet: Mutex<FleetHealth>,
    // Further servers, where there are several. The fields above are those of the first.
    servers: OnceLock<ServerHealths>,
    // Which master the sentinels name, or what is wrong with them; `None`: there are none.
    sentinels: Mutex<Option<Result<String, String>>>,
    // The nodes of a Cluster.
    nodes: Mutex<NodeHealths>,
    draining_since: OnceLock<SystemTime>,
    shortage: Mutex<Option<Incident>>,
    backends: Mutex<BackendMap>,
    // Problems of certificates, by listener and file.
    certificates: Mutex<BTreeMap<String, String>>,
    // Problems of the sets of keys, by their URLs.
    key_sets: Mutex<BTreeMap<String, String>>,
    reload: Mutex<Option<Incident>>,
    slow_readers: Mutex<Option<Incident>>,
    // Problems of presence, webhooks and logs, on which no stream depends.
    recurring: Mutex<RecurringProblems>,
}

/// Keyed by route and upstream.
type BackendMap = HashMap<(Box<str>, Box<str>), Weak<BackendHealth>>;

impl HealthState {
    /// The sources other than pub/sub, with their names. Not every gateway has them.
    fn further_sources(&self) -> [(&SourceHealth, &'static str); 4] {
        [
            (&self.log_source, "Redis Streams"),
            (&self.recording, "recorded channels"),
            (&self.sharded_recording, "recorded sharded channels"),
            (&self.revocations, "control channel"),
        ]
    }

    /// Whether the sources of this server are ready.
    fn are_sources_ready(&self) -> bool {
        self.source.is_ready() && self.further_sources().iter().all(|(source, _)| source.passes())
    }

    /// What is wrong with the sources of this server.
    fn source_incidents(&self) -> Option<String> {
        let further = self.further_sources().into_iter();
        let further =
            further.filter_map(|(source, name)| Some(format!("{name}: {}", source.incident()?)));
        let own = self.source.incident().map(|incident| incident.to_string());
        let incidents = own.into_iter().chain(further);
        let incidents = incidents.collect::<Vec<_>>().join("; ");
        match (incidents.is_empty(), self.are_sources_ready()) {
            (false, _) => Some(incidents),
            (true, true) => None,
            (true, false) => Some("not connected yet".to_owned()),
        }
    }
}

impl Health {
    /// Sets whether the source is connected and all subscriptions are active.
    pub fn set_source_ready(&self, is_ready: bool) {
        self.0.source.set_ready(is_ready);
    }

    /// Records that the source is the embedded bus, which is always connected.
    pub fn set_embedded_source(&self) {
        self.0.is_source_embedded.store(true, Ordering::Relaxed);
        self.set_source_ready(true);
    }

    /// Records a failure of the source.
    pub fn source_failed(&self, kind: &'static str, error: &str) {
        self.0.source.failed(kind, error);
    }

    /// Sets whether the source of Redis Streams is connected and reads every stream.
    pub fn set_log_source_ready(&self, is_ready: bool) {
        self.0.log_source.set_ready(is_ready);
    }

    /// Records a failure of the source of Redis Streams.
    pub fn log_source_failed(&self, kind: &'static str, error: &str) {
        self.0.log_source.failed(kind, error);
    }

    /// Sets whether the channels that are recorded are subscribed.
    pub fn set_recording_ready(&self, is_ready: bool) {
        self.0.recording.set_ready(is_ready);
    }

    /// Records a failure to record channels.
    pub fn recording_failed(&self, kind: &'static str, error: &str) {
        self.0.recording.failed(kind, error);
    }

    /// Records that Redis refused a script or a mark, which recorded channels need. Without it no client can resume at
    /// another gateway.
    pub fn recording_refused(&self, kind: &'static str, error: &str) {
        self.0.recording.refused(kind, error);
    }

    /// Sets whether the sharded channels that are recorded are subscribed, at one node at least.
    pub fn set_sharded_recording_ready(&self, is_ready: bool) {
        self.0.sharded_recording.set_ready(is_ready);
    }

    /// Records a failure to record sharded channels.
    pub fn sharded_recording_failed(&self, kind: &'static str, error: &str) {
        self.0.sharded_recording.failed(kind, error);
    }

    /// The same as [`Self::recording_refused`], for sharded channels.
    pub fn sharded_recording_refused(&self, kind: &'static str, error: &str) {
        self.0.sharded_recording.refused(kind, error);
    }

    /// Sets whether the revocations that Redis keeps were read.
    pub fn set_revocations_ready(&self, is_ready: bool) {
        self.0.revocations.set_ready(is_ready);
    }

    /// Records a failure of the control channel.
    pub fn revocations_failed(&self, kind: &'static str, error: &str) {
        self.0.revocations.failed(kind, error);
    }

    /// Records that the gateway is one of several at the same Redis.
    pub fn expect_fleet(&self) {
        lock(&self.0.fleet).is_expected = true;
    }

    /// Records whether the gateway is one of several for sharded channels.
    pub fn expect_fleet_at_nodes(&self, is_expected: bool) {
        lock(&self.0.fleet).is_expected_at_nodes = is_expected;
    }

    /// Sets whether the gateway follows what its fleet follows. Until then it is not ready.
    pub fn set_fleet_warm(&self, is_warm: bool) {
        lock(&self.0.fleet).is_warm = is_warm;
    }

    /// The same for sharded channels.
    pub fn set_fleet_warm_at_nodes(&self, is_warm: bool) {
        lock(&self.0.fleet).is_warm_at_nodes = is_warm;
    }

    /// Whether the gateway follows what its fleet follows, or is on its own.
    pub fn is_fleet_warm(&self) -> bool {
        self.0.fleet_check().is_none_or(|check| check.passes)
    }

    /// Records whether the gateway receives what its fleet publishes (at this node of a Cluster); `Err`: why not.
    pub fn set_fleet_followed(&self, node: Option<&str>, result: Result<(), String>) {
        lock(&self.0.fleet).follow_problems.set(node, result);
    }

    /// Records whether the gateway can publish to its fleet; `Err`: why not.
    pub fn set_fleet_published(&self, node: Option<&str>, result: Result<(), String>) {
        lock(&self.0.fleet).publish_problems.set(node, result);
    }

    /// Records that a message of another gateway was ignored, and why.
    pub fn note_fleet_ignored(&self, why: &'static str) {
        lock(&self.0.fleet).ignored = Some((why, Instant::now()));
    }

    /// Records which master the sentinels name; `Err`: what is wrong with them. The connection to Redis may still
    /// work.
    pub fn set_sentinels(&self, result: Result<String, String>) {
        *lock(&self.0.sentinels) = Some(result);
    }

    /// Records the states of all nodes of the Cluster that own slots.
    pub fn set_nodes(&self, nodes: &[NodeState]) {
        lock(&self.0.nodes).set(nodes, SystemTime::now());
    }

    /// Which master the sentinels name, if there are sentinels and nothing is wrong with them.
    pub fn master(&self) -> Option<String> {
        self.0.masters()
    }

    /// Records that the drain has begun. It cannot be undone.
    pub fn set_draining(&self) {
        self.0.draining_since.get_or_init(SystemTime::now);
    }

    /// Sets or clears the shortage of file descriptors.
    pub fn set_shortage(&self, shortage: Option<Incident>) {
        *lock(&self.0.shortage) = shortage;
    }

    /// The health of an upstream of a route, shared by all callers.
    pub fn backend(&self, route: &str, upstream: &str) -> Arc<BackendHealth> {
        let mut backends = lock(&self.0.backends);
        let key = (route.into(), upstream.into());
        if let Some(backend) = backends.get(&key).and_then(Weak::upgrade) {
            return backend;
        }
        let backend = Arc::new(BackendHealth::new(route, upstream));
        backends.insert(key, Arc::downgrade(&backend));
        backend
    }

    /// All upstreams that are in use.
    pub fn backends(&self) -> Vec<Arc<BackendHealth>> {
        let mut backends = lock(&self.0.backends);
        backends.retain(|_, backend| backend.strong_count() > 0);
        backends.values().filter_map(Weak::upgrade).collect()
    }

    /// Sets or clears the problem of a certificate. `of` names the certificate and its listener.
    pub fn set_certificate(&self, of: &str, problem: Option<String>) {
        set_problem(&self.0.certificates, of, problem);
    }

    /// Sets or clears the problem of the set of keys that is fetched from `url`.
    pub fn set_key_set(&self, url: &str, problem: Option<String>) {
        set_problem(&self.0.key_sets, url, problem);
    }

    /// Records the result of a configuration reload; `Err`: why the old one stays.
    pub fn set_reload(&self, result: Result<(), String>) {
        let incident = result.err().map(|e| Incident::new("reload", e, SystemTime::now()));
        *lock(&self.0.reload) = incident;
    }

    /// Sets or clears the problem that streams are closed because their clients read too slowly.
    pub fn set_slow_readers(&self, incident: Option<Incident>) {
        *lock(&self.0.slow_readers) = incident;
    }

    /// Records a failure of something that no stream waits for, such as a webhook. The problem lasts until
    /// [`Self::works`], or until it has not recurred for ten minutes.
    pub fn failed(&self, about: &str, kind: &'static str, error: &str) {
        lock(&self.0.recurring).failed(about, kind, error, SystemTime::now());
    }

    /// Records that `about` works. Returns whether it had a problem.
    pub fn works(&self, about: &str) -> bool {
        lock(&self.0.recurring).works(about)
    }

    /// Whether all sources are ready.
    pub fn is_source_ready(&self) -> bool {
        self.0.are_servers_ready()
    }

    /// Whether the source is the embedded bus.
    pub fn is_source_embedded(&self) -> bool {
        self.0.is_source_embedded.load(Ordering::Relaxed)
    }

    /// The last outages of the sources, each with the name of the source, the newest first.
    pub fn outages(&self) -> Vec<(String, Outage)> {
        let mut all: Vec<_> = self.0.server_outages().collect();
        all.sort_by_key(|(_, outage)| std::cmp::Reverse(outage.began));
        all
    }

    /// Whether the gateway is draining.
    pub fn is_draining(&self) -> bool {
        self.0.draining_since.get().is_some()
    }

    /// The readiness checks.
    pub fn checks(&self) -> Vec<ReadinessCheck> {
        let is_embedded = self.0.is_source_embedded.load(Ordering::Relaxed);
        let draining = self.0.draining_since.get();
        let draining =
            draining.map(|since| format!("this gateway is stopping; since {}", date(*since)));
        let shortage = lock(&self.0.shortage).as_ref().map(ToString::to_string);
        let (is_source_ready, incidents) = (self.is_source_ready(), self.0.server_incidents());
        let mut checks = vec![
            ReadinessCheck {
                name: "redis",
                about: if is_embedded { "embedded bus" } else { "redis" },
                passes: is_source_ready,
                is_degraded: is_source_ready && incidents.is_some(),
                detail: incidents,
            },
            ReadinessCheck::failing_for("drain", draining),
            ReadinessCheck::failing_for("descriptors", shortage),
        ];
        checks.extend(self.0.nodes_check());
        checks.extend(self.0.fleet_check());
        checks
    }

    /// All problems that do not affect readiness.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |about: String, detail: String| warnings.push(Warning { about, detail });
        let mut backends = self.backends();
        backends.sort_by(|a, b| (a.route(), a.upstream()).cmp(&(b.route(), b.upstream())));
        for backend in backends {
            for incident in backend.incidents() {
                warn(format!("backend {} of {}", backend.upstream(), backend.route()), incident);
            }
        }
        for (of, problem) in &*lock(&self.0.certificates) {
            warn(format!("certificate of {of}"), problem.clone());
        }
        for (url, problem) in &*lock(&self.0.key_sets) {
            warn(format!("keys of {url}"), problem.clone());
        }
        for Warning { about, detail } in self.0.server_warnings() {
            warn(about, detail);
        }
        for (about, incident) in
            [("configuration", &self.0.reload), ("slow readers", &self.0.slow_readers)]
        {
            if let Some(incident) = &*lock(incident) {
                warn(about.to_owned(), incident.to_string());
            }
        }
        for (about, incident) in lock(&self.0.recurring).list(SystemTime::now()) {
            warn(about.to_owned(), incident.to_string());
        }
        warnings
    }
}

fn set_problem(problems: &Mutex<BTreeMap<String, String>>, of: &str, problem: Option<String>) {
    let mut problems = lock(problems);
    match problem {
        Some(problem) => drop(problems.insert(of.to_owned(), problem)),
        None => drop(problems.remove(of)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
