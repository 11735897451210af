//! `ssegate check --connect`: tests whether Redis permits what the routes need, and fetches the keys of tokens.

use ssegate::auth::{JwksLocation, JwtAuth, MethodSettings, fetch_keys};
use ssegate::config::Settings;
use ssegate::route::{Channels, KeepSettings, KeepStore};
use ssegate::source::redis::{Inspection, RedisProblem, RedisRead, RedisServer, inspect};
use ssegate_auth::jwt::{Algorithm, KeySet};
use ssegate_hub::Ids;
use ssegate_hub::Topic;

use super::count::count;
use super::printable::printable;
use super::redis_mends::{mend_of_connection, mend_of_refusal, with_key};
use super::{CliError, block_on, output};

/// Why `check --connect` fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The connection or the login failed. The address has neither user nor password in it.
    #[error("{key}: cannot use Redis at {address}: {why}; {mend}")]
    Unreachable { key: String, address: String, why: String, mend: String },
    /// Redis refuses this number of things that the routes need. Each was printed.
    #[error("{2}: Redis at {0} refused {1} of what the routes need; see above")]
    Refused(String, usize, String),
    /// Of several servers these cannot be used. Why has been printed.
    #[error("{0} cannot be used; see above")]
    Servers(String),
    /// This number of key sets cannot be used. Why has been printed.
    #[error("auth.jwt.jwks: {0} of the sets of keys cannot be used; see above")]
    Keys(usize),
    /// The routes conflict with each other.
    #[error("{0}")]
    Router(#[from] ssegate::route::RouterError),
}

impl From<ConnectError> for CliError {
    fn from(error: ConnectError) -> Self {
        Self::Command(error.into())
    }
}

/// Connects to the Redis of the configuration, and subscribes to or reads each name in the routes. Fetches
/// each set of keys at a URL.
pub(super) fn check(settings: &Settings) -> Result<(), CliError> {
    // The keys are checked also if Redis fails.
    let keys = check_keys(settings);
    check_redis(settings).and(keys)
}

fn check_keys(settings: &Settings) -> Result<(), CliError> {
    let mut unusable = 0;
    for (location, algorithms) in key_sets(settings) {
        let fetched = block_on(async { Ok(fetch_keys(location).await) })?;
        match fetched.and_then(|keys| found(&keys, &algorithms)) {
            Ok(found) => output::line(format_args!("jwks: ok: {location}: {found}"))?,
            Err(why) => {
                unusable += 1;
                output::to_stderr(format_args!("ssegate: auth.jwt.jwks: {location}: {why}"));
            }
        }
    }
    if unusable == 0 { Ok(()) } else { Err(ConnectError::Keys(unusable).into()) }
}

/// Each set of keys at a URL, with the algorithms of which it must have at least one.
pub(super) fn key_sets(settings: &Settings) -> Vec<(&JwksLocation, Vec<Algorithm>)> {
    let of_routes = settings.routes.iter().filter_map(|route| route.auth.as_ref());
    let of_admin = settings.admin.iter().filter_map(|admin| admin.auth.as_ref());
    let mut sets: Vec<(&JwksLocation, Vec<Algorithm>)> = Vec::new();
    for method in of_routes.chain(of_admin).flat_map(|auth| auth.methods()) {
        let MethodSettings::Jwt(jwt) = method else { continue };
        let JwtAuth { jwks: Some(location), rules, .. } = &**jwt else { continue };
        match sets.iter_mut().find(|(known, _)| *known == location) {
            Some((_, algorithms)) => algorithms.extend(&rules.algorithms),
            None => sets.push((location, rules.algorithms.clone())),
        }
    }
    sets
}

/// Describes the keys of a set.
///
/// # Errors
/// It has no key for any of the algorithms that tokens may have.
pub(super) fn found(keys: &KeySet, wanted: &[Algorithm]) -> Result<String, String> {
    let has = keys.algorithms();
    let names = |algorithms: &[Algorithm]| {
        let names: Vec<_> = algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
        names.join(", ")
    };
    let number = count(keys.iter().count(), "key");
    match has.iter().any(|algorithm| wanted.contains(algorithm)) {
        true => Ok(format!("{number}, for {}", names(&has))),
        false => Err(format!(
            "it has {number}, for {}, and none for {}; change algorithms, or check that the URL is that of the \
             keys (`jwks_uri`)",
            names(&has),
            names(wanted)
        )),
    }
}

fn check_redis(settings: &Settings) -> Result<(), CliError> {
    let servers = settings.source.redis_servers();
    if servers.is_empty() {
        return output::line(
            "redis: nothing to connect to: redis.url is the embedded bus of the gateway itself",
        );
    }
    let mut unusable = Vec::new();
    let is_alone = servers.len() == 1;
    for (index, server) in &servers {
        match check_server(settings, *index, server) {
            Err(CliError::Command(error)) if !is_alone => {
                output::to_stderr(format_args!("ssegate: {error}"));
                unusable.push(key_of(settings, *index));
            }
            other => other?,
        }
    }
    match unusable.is_empty() {
        true => Ok(()),
        false => Err(ConnectError::Servers(unusable.join(", ")).into()),
    }
}

/// The key of gateway.yaml that has the URL of a server.
pub(super) fn key_of(settings: &Settings, index: usize) -> String {
    settings.source.servers.key(index)
}

/// The name of a server with a colon, to begin a line about it; empty if there is only one server.
pub(super) fn name_of(settings: &Settings, index: usize) -> String {
    shown_name(settings, index, ": ")
}

/// The name of a server followed by `separator`; empty if there is only one server.
pub(super) fn shown_name(settings: &Settings, index: usize, separator: &str) -> String {
    let source = &settings.source;
    let name = source.servers.names().get(index).filter(|_| !source.further.is_empty());
    name.map(|name| format!("{name}{separator}")).unwrap_or_default()
}

fn check_server(settings: &Settings, index: usize, server: &RedisServer) -> Result<(), CliError> {
    let (address, key) = (server.to_string(), key_of(settings, index));
    let reads = reads(settings, index).map_err(ConnectError::from)?;
    let inspection = block_on(async { Ok(inspect(server, &reads).await) })?;
    let Inspection { server: described, refused, notes, risks: _, fleet } =
        inspection.map_err(|error| ConnectError::Unreachable {
            mend: mend_of_connection(&error, &key),
            why: with_key(&error.text, &key),
            address: address.clone(),
            key: key.clone(),
        })?;
    for note in &notes {
        let text = with_key(&note.text, &key);
        output::to_stderr(format_args!("ssegate: warning: {}", printable(&text)));
    }
    for refusal in &refused {
        let (text, mend) = (with_key(&refusal.text, &key), mend_of_refusal(refusal, &key));
        output::to_stderr(format_args!("ssegate: {}; {mend}", printable(&text)));
    }
    if refused.is_empty() {
        let described = printable(&described);
        output::line(format_args!("redis: ok: {address}, {described}; {}", permitted(&reads)))?;
    }
    let name = name_of(settings, index);
    let with = with_which(&reads);
    output::line(format_args!("fleet: {name}{}", resumption(fleet, with)))?;
    match refused.len() {
        0 => Ok(()),
        names => Err(ConnectError::Refused(address, names, key).into()),
    }
}

/// The channels of which gateways know each other's ids; empty if of all.
pub(super) fn with_which(reads: &[RedisRead]) -> &'static str {
    let is_of_sharded = reads.contains(&RedisRead::NodeFleet) && !reads.contains(&RedisRead::Fleet);
    if is_of_sharded { " of sharded channels" } else { "" }
}

/// Describes whether a client can resume at another gateway without a gap, as far as this gateway can test that.
fn resumption(fleet: Option<Result<(), RedisProblem>>, with: &str) -> String {
    match fleet {
        None => "off: a client that comes from another gateway is told a gap".to_owned(),
        Some(Ok(())) => format!("clients{with} can resume at another gateway: yes"),
        Some(Err(why)) => {
            format!("clients{with} can resume at another gateway: no, because {why}")
        }
    }
}

/// Describes what Redis permits, for each kind of thing that the routes need.
pub(super) fn permitted(reads: &[RedisRead]) -> String {
    let counts = [
        ("channel", reads.iter().filter(|read| is_subscription(read, false)).count()),
        ("pattern", reads.iter().filter(|read| is_subscription(read, true)).count()),
        (
            "sharded channel",
            reads.iter().filter(|read| matches!(read, RedisRead::Sharded(_))).count(),
        ),
        ("stream", reads.iter().filter(|read| matches!(read, RedisRead::Stream(_))).count()),
        (
            "control channel",
            reads.iter().filter(|read| matches!(read, RedisRead::Control(_))).count(),
        ),
        ("recording", reads.iter().filter(|read| is_recorded(read)).count()),
        ("store of kept streams", usize::from(reads.contains(&RedisRead::Kept))),
        ("presence", usize::from(reads.iter().any(|read| matches!(read, RedisRead::Presence(_))))),
    ];
    let needed = counts.into_iter().filter(|(_, number)| *number > 0);
    let needed: Vec<_> = needed.map(|(thing, number)| count(number, thing)).collect();
    if needed.is_empty() {
        return "no route reads from it".into();
    }
    format!("it permits what the routes read ({} tested)", needed.join(", "))
}

fn is_recorded(read: &RedisRead) -> bool {
    matches!(read, RedisRead::Recorded(_) | RedisRead::ShardedRecorded(_))
}

fn is_subscription(read: &RedisRead, is_pattern: bool) -> bool {
    matches!(read, RedisRead::Subscription(subscription) if subscription.is_pattern == is_pattern)
}

/// The channels, patterns and streams that the routes read at a server, without duplicates. Parameters are
/// filled in with sample values.
pub(super) fn reads(
    settings: &Settings,
    index: usize,
) -> Result<Vec<RedisRead>, ssegate::route::RouterError> {
    let servers = &settings.source.servers;
    let is_here = |channels: &&Channels| servers.may_be_at(channels.server(), index);
    let router = ssegate::route::Router::new(&settings.routes, None)?;
    let mut reads = Vec::new();
    for route in router.routes() {
        let handover = route.handover.as_ref().map(|handover| &handover.channels);
        let channels = route.channels.iter().chain(handover).filter(is_here);
        for topic in channels.flat_map(Channels::samples) {
            let is_recorded = topic.ids == Ids::Recorded;
            let recording = match topic.subscription.name.as_sharded() {
                Some(_) => RedisRead::ShardedRecorded,
                None => RedisRead::Recorded,
            };
            let recorded = is_recorded.then(|| recording(settings.source.recorded.clone()));
            for read in [read(topic)].into_iter().chain(recorded) {
                if !reads.contains(&read) {
                    reads.push(read);
                }
            }
        }
        let presence = route.settings.presence.iter().filter(|_| index == 0);
        let presence = presence.map(|settings| RedisRead::Presence(settings.clone()));
        for read in presence {
            if !reads.contains(&read) {
                reads.push(read);
            }
        }
    }
    // Streams are kept for all gateways at the first server.
    let is_shared = |keep: &KeepSettings| index == 0 && keep.store != KeepStore::Memory;
    if router.routes().iter().any(|route| route.settings.keep.as_deref().is_some_and(is_shared)) {
        reads.push(RedisRead::Kept);
    }
    let revocation = settings.revocation.as_ref().filter(|_| index == 0);
    if let Some(control) = revocation.and_then(|revocation| revocation.control.as_ref()) {
        reads.push(RedisRead::Control(control.channel.clone()));
    }
    let source = &settings.source;
    let (fleet, node_fleet) = match index.checked_sub(1).map(|further| source.further.get(further))
    {
        None => (source.fleet.as_ref(), source.node_fleet.as_ref()),
        Some(further) => {
            further.map_or((None, None), |one| (one.fleet.as_ref(), one.node_fleet.as_ref()))
        }
    };
    if fleet.is_some() {
        reads.push(RedisRead::Fleet);
    }
    if node_fleet.is_some() && reads.iter().any(|read| matches!(read, RedisRead::Sharded(_))) {
        reads.push(RedisRead::NodeFleet);
    }
    Ok(reads)
}

fn read(Topic { subscription, ids, .. }: Topic) -> RedisRead {
    match ids {
        Ids::Entries => RedisRead::Stream(subscription.name),
        _ if subscription.name.as_sharded().is_some() => RedisRead::Sharded(subscription.name),
        Ids::Ours | Ids::Publisher | Ids::Mixed | Ids::Recorded => {
            RedisRead::Subscription(subscription)
        }
    }
}

#[cfg(test)]
mod tests {
    use ssegate::config;
    use ssegate::source::recorded::RecordedSettings;
    use ssegate::source::redis::RedisRead;
    use ssegate_hub::{ChannelName, Subscription};

    use ssegate_auth::jwt::{Algorithm, Key, KeySet};

    use super::{found, permitted, reads};

    #[test]
    fn the_keys_are_for_the_algorithms_of_tokens() {
        let keys: KeySet = [Key::from_secret(b"a"), Key::from_secret(b"b")].into_iter().collect();
        assert_eq!(
            found(&keys, &[Algorithm::RS256, Algorithm::HS512]).expect("one is for HS512"),
            "2 keys, for HS256, HS384, HS512"
        );
        let why = found(&keys, &[Algorithm::RS256, Algorithm::ES256]).expect_err("none");
        assert!(
            why.starts_with("it has 2 keys, for HS256, HS384, HS512, and none for RS256, ES256;")
        );
    }

    #[test]
    fn what_is_recorded_is_tested_once_beside_its_channels() {
        let yaml = "redis: {url: redis://r}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n\
            - {path: /a, events: {channels: [a], source: recorded}}\n\
            - {path: /b, events: {channels: [b], source: recorded}}\n\
            - {path: /c, events: {channels: [c]}}\n";
        let settings = config::parse(yaml, "gateway.yaml", &|_| None).expect("a valid file");
        let reads = reads(&settings, 0).expect("routes");
        let is_recorded = |read: &&RedisRead| matches!(read, RedisRead::Recorded(_));
        assert_eq!((reads.len(), reads.iter().filter(is_recorded).count()), (5, 1), "{reads:?}");
    }

    #[test]
    fn the_result_says_what_was_tested() {
        let name = || ChannelName::new("news").expect("a name");
        let subscription =
            |is_pattern| RedisRead::Subscription(Subscription { name: name(), is_pattern });
        for (reads, expected) in [
            (vec![], "no route reads from it"),
            (
                vec![subscription(false), subscription(true), subscription(false)],
                "it permits what the routes read (2 channels, 1 pattern tested)",
            ),
            (vec![RedisRead::Stream(name())], "it permits what the routes read (1 stream tested)"),
            (
                vec![RedisRead::Sharded(name())],
                "it permits what the routes read (1 sharded channel tested)",
            ),
            (
                vec![subscription(false), RedisRead::Recorded(RecordedSettings::default())],
                "it permits what the routes read (1 channel, 1 recording tested)",
            ),
            (
                vec![RedisRead::Control(name())],
                "it permits what the routes read (1 control channel tested)",
            ),
        ] {
            assert_eq!(permitted(&reads), expected);
        }
    }
}
