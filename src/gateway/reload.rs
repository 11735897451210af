//! Reloads gateway.yaml on SIGHUP, and when the admin listener is asked to.
//!
//! Routes, limits, certificates and keys change for new requests and connections; no stream is
//! closed. If the file has an error, or a certificate cannot be loaded, nothing changes. Settings
//! that are fixed at the start, such as the addresses, keep their values; a change to one is
//! logged.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ssegate_hub::Hub;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};

use super::certificates::replaced;
use super::config_change::{ConfigChange, ConfigChanges};
use super::config_loader::ConfigLoader;
use super::duration_text::DurationText;
use super::hubs::Hubs;
use super::shared::hub_settings;
use super::stop::DrainSettings;
use super::{inspect, systemd};
use crate::admin::{AdminAuth, AdminSettings, ReloadReply, ReloadRequest};
use crate::auth::{Authenticator, SharedAuth};
use crate::config::{ConfigErrors, Settings};
use crate::health::Health;
use crate::log::{AccessLog, LevelControl};
use crate::metrics::Metrics;
use crate::route::{self, Router, RouterError};
use crate::server::ListenerSettings;
use crate::server::certificate::Certificate;
use crate::server::listener::Listener;
use crate::server::tls;
use crate::server::tls_error::TlsError;
use crate::source::presence::Presence;

/// A reload fails after this. Reading takes milliseconds. If a network disk does not respond, each requested reload
/// leaves one blocked thread.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Applies a new configuration to the running gateway.
pub(super) struct Reloader {
    /// The settings in effect, as configured.
    pub(super) current: Settings,
    pub(super) router: Arc<Router>,
    pub(super) listeners: Vec<Listener>,
    pub(super) shards: ConfigChanges,
    /// The routes, for publishing on the admin listener.
    pub(super) routes: watch::Sender<Arc<Router>>,
    pub(super) hubs: Hubs,
    pub(super) shared_hub: Hub,
    pub(super) max_connections: Rc<Cell<usize>>,
    pub(super) drain_settings: Rc<Cell<DrainSettings>>,
    pub(super) auth: SharedAuth,
    pub(super) admin_auth: AdminAuth,
    pub(super) level: LevelControl,
    pub(super) access: AccessLog,
    pub(super) presence: Presence,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// The result of a successful reload, for whoever requested it.
struct Reloaded {
    /// Keys that have changed, but take effect only after a restart.
    restart: Vec<&'static str>,
    warnings: Vec<String>,
}

/// Why a reload failed.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Router(#[from] RouterError),
    #[error("{address}: {cause}")]
    Certificate { address: std::net::SocketAddr, cause: Box<TlsError> },
    #[error(
        "the route {0} has its channels at a server with which this gateway was not started (redis.named, redis.shards); \
         restart it"
    )]
    Server(String),
    #[error("loading the configuration failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error(
        "reading the configuration takes more than {}; does its disk respond?",
        DurationText(*.0)
    )]
    TimedOut(Duration),
}

impl Reloader {
    /// Reloads at each SIGHUP, and at each of `requests`. Runs as long as the gateway.
    pub(super) async fn run(
        mut self,
        (mut hang_up, mut requests): (Signal, mpsc::Receiver<ReloadRequest>),
        load: ConfigLoader,
    ) {
        // The metric of the last reload has to exist before the first reload.
        self.metrics.config_loaded(true);
        loop {
            let request = tokio::select! {
                signal = hang_up.recv() => match signal {
                    Some(()) => None,
                    None => return,
                },
                // Never arrives without an admin listener.
                Some(request) = requests.recv() => Some(request),
            };
            match request {
                None => drop(self.reload_and_report(&load, false).await),
                Some(request) => self.respond(request, &load).await,
            }
        }
    }

    /// Reloads if the request is for this gateway, and sends the result to the requester.
    async fn respond(&mut self, request: ReloadRequest, load: &ConfigLoader) {
        let file = load.file().await;
        let name = file.as_ref().map(|file| file.display().to_string());
        let reply = if request.means(file.as_deref()) {
            tracing::info!("a reload was requested on the admin listener");
            match self.reload_and_report(load, true).await {
                Ok(Reloaded { restart, warnings }) => {
                    ReloadReply::Done { file: name, restart, warnings }
                }
                Err(error) => error.reply(),
            }
        } else {
            ReloadReply::OtherFile(name)
        };
        // Fails if the requester is gone, which does not matter.
        drop(request.reply.send(reply));
    }

    /// Reloads, and reports the result to systemd, the metrics, `/readyz` and the log. `checks`: also returns the
    /// warnings of `ssegate check`.
    async fn reload_and_report(
        &mut self,
        load: &ConfigLoader,
        checks: bool,
    ) -> Result<Reloaded, ReloadError> {
        systemd::reloading();
        let reloaded = self.reload(load, checks).await;
        self.metrics.config_reloaded(reloaded.is_ok());
        self.health.set_reload(reloaded.as_ref().map(|_| ()).map_err(ReloadError::summary));
        match &reloaded {
            Ok(_) => tracing::info!("configuration reloaded"),
            Err(error) => error.log(),
        }
        systemd::ready();
        reloaded
    }

    async fn reload(&mut self, load: &ConfigLoader, checks: bool) -> Result<Reloaded, ReloadError> {
        let (mut new, warnings) = load_within(LOAD_TIMEOUT, load.clone(), checks).await?;
        let router = Arc::new(Router::new(&new.routes, Some(&self.router))?);
        let servers = &self.current.source.servers;
        let routes = new.routes.iter().map(|route| &**route);
        if let Some(route) = route::first_elsewhere(routes, servers) {
            return Err(ReloadError::Server(route.path.clone()));
        }
        new.routes = Vec::new();
        let certificates = self.certificates(&new.listeners)?;
        // Nothing below fails the reload, so it is applied as a whole or not at all.
        let restart = fixed_keys_changed(&self.current, &new);
        for key in &restart {
            tracing::warn!(key, "the change takes effect after a restart");
        }
        restore_fixed(&self.current, &mut new);
        for (listener, certificates) in certificates {
            let Some(tls) = &listener.tls else { continue };
            let reloads = tls.certificates.replace_with(certificates, SystemTime::now());
            replaced(listener.address, &reloads, &self.metrics);
        }
        let admin = new.admin.as_ref().and_then(|admin| admin.auth.clone());
        self.admin_auth.set(admin.map(|auth| Authenticator::new(auth, &self.auth)));
        self.shared_hub.change(hub_settings(&new.hub));
        self.hubs.change(&new.hub, &router);
        self.level.configure(new.log.level);
        self.access.change(&new.log);
        self.max_connections.set(new.connections.max_connections);
        self.drain_settings.set(DrainSettings::of(&new));
        let connections = new.connections.clone();
        let requests = new.requests.clone();
        self.router = Arc::clone(&router);
        self.routes.send_replace(Arc::clone(&router));
        self.presence.change_routes(&router);
        self.shards.send_replace(Some(ConfigChange { router, connections, requests }));
        self.current = new;
        Ok(Reloaded { restart, warnings })
    }

    /// Loads the certificates of the listeners that stay, even if their paths have not changed.
    fn certificates(
        &self,
        new: &[ListenerSettings],
    ) -> Result<Vec<(&Listener, Vec<Certificate>)>, ReloadError> {
        let pairs = self.current.listeners.iter().zip(new).zip(&self.listeners);
        let stay = pairs.filter(|((old, new), _)| is_same_listener(old, new));
        stay.filter_map(|((_, new), listener)| Some((new.tls.as_ref()?, listener)))
            .map(|(settings, listener)| {
                let address = listener.address;
                tls::certificates(settings)
                    .map(|certificates| (listener, certificates))
                    .map_err(|cause| ReloadError::Certificate { address, cause: Box::new(cause) })
            })
            .collect()
    }
}

/// Loads the configuration on another thread: disk access may block, and this thread runs the source. With `checks`
/// also returns the warnings of `ssegate check`.
async fn load_within(
    limit: Duration,
    load: ConfigLoader,
    checks: bool,
) -> Result<(Settings, Vec<String>), ReloadError> {
    let loading = tokio::task::spawn_blocking(move || {
        let settings = load.load()?;
        let warnings = if checks { warnings(&settings) } else { Vec::new() };
        Ok((settings, warnings))
    });
    let loaded: Result<_, ConfigErrors> =
        tokio::time::timeout(limit, loading).await.map_err(|_| ReloadError::TimedOut(limit))??;
    Ok(loaded?)
}

/// The warnings of `ssegate check`. An error that would prevent a start is a warning here, because this gateway runs.
fn warnings(settings: &Settings) -> Vec<String> {
    inspect(settings).unwrap_or_else(|error| vec![format!("a restart would fail: {error}")])
}

impl ReloadError {
    /// The first error and the number of others, for `/readyz`.
    fn summary(&self) -> String {
        let text = self.to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let others = match lines.count() {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        format!("the last reload failed; the old configuration stays in use: {first}{others}")
    }

    /// The reply to whoever requested the reload.
    fn reply(&self) -> ReloadReply {
        match self {
            // One a line, as `ssegate check` prints them.
            Self::Config(errors) => {
                ReloadReply::Wrong(errors.to_string().lines().map(str::to_owned).collect())
            }
            Self::Router(_) | Self::Certificate { .. } | Self::Server(_) => {
                ReloadReply::Wrong(vec![self.to_string()])
            }
            Self::Task(_) | Self::TimedOut(_) => ReloadReply::Unreadable(self.to_string()),
        }
    }

    /// Logs each error with its position.
    fn log(&self) {
        const MESSAGE: &str = "reload failed; the old configuration stays in use";
        let Self::Config(errors) = self else {
            return tracing::error!(error = %self, "{MESSAGE}");
        };
        for mistake in errors.mistakes() {
            let (line, column) = mistake.position().unzip();
            let (file, key, error) = (errors.file(), mistake.path(), mistake.message());
            tracing::error!(file, line, column, key, error, "{MESSAGE}");
        }
    }
}

/// The keys that have changed, but take effect only after a restart.
fn fixed_keys_changed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let servers_differ = !old.source.has_same_servers(&new.source);
    let is_divided = [old, new].iter().any(|one| one.source.servers.divides_names());
    // Which of the two has the settings depends on `redis.url`, which is compared by itself.
    let fleet = |one: &Settings| one.source.fleet.clone().or_else(|| one.source.node_fleet.clone());
    let differ = [
        ("listeners", !are_same_listeners(&old.listeners, &new.listeners)),
        ("admin", !is_same_admin(old.admin.as_ref(), new.admin.as_ref())),
        ("redis.url", !old.source.location.is_same(&new.source.location)),
        ("redis.named", servers_differ && !is_divided),
        ("redis.shards", servers_differ && is_divided),
        ("max_event_bytes", old.source.max_event_bytes != new.source.max_event_bytes),
        ("limits.bus_memory", old.source.max_bus_memory != new.source.max_bus_memory),
        ("limits.bus_streams", old.source.max_bus_streams != new.source.max_bus_streams),
        ("fleet", fleet(old) != fleet(new)),
        ("recorded", old.source.recorded != new.source.recorded),
        ("revocation", old.revocation != new.revocation),
        ("shards", old.shards != new.shards),
        ("sockets.send_buffer", old.connections.send_buffer != new.connections.send_buffer),
        ("sockets.backlog", old.connections.backlog != new.connections.backlog),
        ("log.format", old.log.format != new.log.format),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// Restores the settings that cannot change, since the next reload is compared with those in
/// effect.
fn restore_fixed(current: &Settings, new: &mut Settings) {
    new.listeners = effective_listeners(&current.listeners, std::mem::take(&mut new.listeners));
    let auth = new.admin.take().and_then(|admin| admin.auth);
    new.admin = current.admin.clone().map(|admin| AdminSettings { auth, ..admin });
    new.source.clone_from(&current.source);
    new.revocation.clone_from(&current.revocation);
    new.shards = current.shards;
    new.connections.send_buffer = current.connections.send_buffer;
    new.connections.backlog = current.connections.backlog;
    new.log.format = current.log.format;
}

fn are_same_listeners(old: &[ListenerSettings], new: &[ListenerSettings]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| is_same_listener(old, new))
}

fn is_same_admin(old: Option<&AdminSettings>, new: Option<&AdminSettings>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.is_same_listener(new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

/// Whether both differ only in the certificate, which can be reloaded.
fn is_same_listener(old: &ListenerSettings, new: &ListenerSettings) -> bool {
    let shape = |settings: &ListenerSettings| {
        (settings.address, settings.tls.is_some(), settings.proxy_protocol)
    };
    shape(old) == shape(new)
}

/// The listeners in effect after a reload: the old ones, where those that stay have their new
/// settings.
fn effective_listeners(
    old: &[ListenerSettings],
    new: Vec<ListenerSettings>,
) -> Vec<ListenerSettings> {
    let mut new = new.into_iter();
    let next = |old: &ListenerSettings| {
        new.next().filter(|new| is_same_listener(old, new)).unwrap_or_else(|| old.clone())
    };
    old.iter().map(next).collect()
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    use super::{ConfigLoader, fixed_keys_changed, load_within};
    use crate::config::Settings;

    #[tokio::test]
    async fn a_disk_that_does_not_respond_fails_the_reload() {
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        let load = ConfigLoader::new(None, move || {
            blocked.lock().expect("one reads").recv().expect_err("nothing is sent");
            Ok(Settings::dev(None))
        });
        let error = load_within(Duration::from_millis(1), load, true).await.expect_err("it blocks");
        assert_eq!(
            error.to_string(),
            "reading the configuration takes more than 1ms; does its disk respond?"
        );
        drop(release);
    }

    #[test]
    fn the_readme_lists_every_key_that_needs_a_restart() {
        let old = Settings::dev(None);
        let mut new = old.clone();
        (new.listeners, new.admin) = (Vec::new(), None);
        new.source.location = crate::config::source("redis://127.0.0.1:1").expect("a place");
        new.source.servers = crate::route::ServerList::shards(2);
        new.source.max_event_bytes += 1;
        new.source.max_bus_memory += 1;
        new.source.max_bus_streams += 1;
        new.source.fleet = None;
        new.source.recorded.count += 1;
        new.revocation = Some(crate::auth::RevocationSettings::default());
        new.shards += 1;
        new.connections.send_buffer += 1;
        new.connections.backlog += 1;
        new.log.format = crate::log::LogFormat::Text;
        let keys = fixed_keys_changed(&old, &new);
        assert_eq!(keys.len(), 14, "{keys:?}");
        super::restore_fixed(&old, &mut new);
        assert_eq!(fixed_keys_changed(&old, &new), [""; 0], "all are restored");
        let guide = include_str!("../../docs/OPERATING.md");
        let (_, about) = guide.split_once("## Reloading\n").expect("it says what a reload does");
        let (about, _) = about.split_once("\n## ").expect("there is more behind it");
        // The first two are the addresses, which the guide describes in words.
        for key in keys.into_iter().skip(2) {
            assert!(about.contains(&format!("`{key}`")), "{key} is not in {about}");
        }
    }
}
