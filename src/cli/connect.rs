//! `ssegate check --connect`: tests whether Redis permits what the routes need.

use ssegate::config::Settings;
use ssegate::route::Channels;
use ssegate::source::SourceLocation;
use ssegate::source::redis::{Inspection, RedisRead, inspect};
use ssegate_hub::Ids;
use ssegate_hub::Topic;

use super::count::count;
use super::{CliError, block_on, output};

/// Why `check --connect` fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The connection or the login failed. The address has neither user nor password in it.
    #[error("redis.url: cannot use Redis at {0}: {1}")]
    Unreachable(String, String),
    /// Redis refuses that many names. Each has been printed.
    #[error("redis.url: Redis at {0} denied access to {1} of the names in the routes; see above")]
    Denied(String, usize),
    /// The routes conflict with each other.
    #[error("{0}")]
    Router(#[from] ssegate::route::RouterError),
}

impl From<ConnectError> for CliError {
    fn from(error: ConnectError) -> Self {
        Self::Command(error.into())
    }
}

/// Connects to the Redis of the configuration, and subscribes to or reads each name in the routes.
pub(super) fn check(settings: &Settings) -> Result<(), CliError> {
    let SourceLocation::Redis(info) = &settings.source.location else {
        return output::line(
            "redis: nothing to connect to: redis.url is the embedded bus of the gateway itself",
        );
    };
    let address = info.addr().to_string();
    let reads = reads(settings).map_err(ConnectError::from)?;
    let inspection = block_on(async { Ok(inspect(info, &reads).await) })?;
    let Inspection { server, refused, notes, fleet } =
        inspection.map_err(|error| ConnectError::Unreachable(address.clone(), error))?;
    for note in &notes {
        output::to_stderr(format_args!("ssegate: warning: {note}"));
    }
    for refusal in &refused {
        output::to_stderr(format_args!("ssegate: {refusal}"));
    }
    if !refused.is_empty() {
        return Err(ConnectError::Denied(address, refused.len()).into());
    }
    output::line(format_args!("redis: ok: {address}, {server}; {}", permitted(&reads)))?;
    output::line(format_args!("fleet: {}", resumption(fleet)))
}

/// Says whether a client that comes from another gateway has missed nothing, as far as this one can see to it.
fn resumption(fleet: Option<Result<(), String>>) -> String {
    match fleet {
        None => "off: a client that comes from another gateway is told a gap".to_owned(),
        Some(Ok(())) => "clients can resume at another gateway: yes".to_owned(),
        Some(Err(why)) => format!("clients can resume at another gateway: no, because {why}"),
    }
}

/// Says what Redis lets the gateway read, for each kind that the routes need.
fn permitted(reads: &[RedisRead]) -> String {
    let counts = [
        ("channel", reads.iter().filter(|read| is_subscription(read, false)).count()),
        ("pattern", reads.iter().filter(|read| is_subscription(read, true)).count()),
        ("stream", reads.iter().filter(|read| matches!(read, RedisRead::Stream(_))).count()),
        (
            "control channel",
            reads.iter().filter(|read| matches!(read, RedisRead::Control(_))).count(),
        ),
    ];
    let needed = counts.into_iter().filter(|(_, number)| *number > 0);
    let needed: Vec<_> = needed.map(|(thing, number)| count(number, thing)).collect();
    if needed.is_empty() {
        return "no route reads from it".into();
    }
    format!("it permits what the routes read ({} tested)", needed.join(", "))
}

fn is_subscription(read: &RedisRead, is_pattern: bool) -> bool {
    matches!(read, RedisRead::Subscription(subscription) if subscription.is_pattern == is_pattern)
}

/// The channels, patterns and streams that the routes read, without duplicates. Parameters are
/// filled in with sample values.
fn reads(settings: &Settings) -> Result<Vec<RedisRead>, ssegate::route::RouterError> {
    let router = ssegate::route::Router::new(&settings.routes, None)?;
    let mut reads = Vec::new();
    for route in router.routes() {
        let handover = route.handover.as_ref().map(|handover| &handover.channels);
        for topic in route.channels.iter().chain(handover).flat_map(Channels::samples) {
            let read = read(topic);
            if !reads.contains(&read) {
                reads.push(read);
            }
        }
    }
    let revocation = settings.revocation.as_ref();
    if let Some(control) = revocation.and_then(|revocation| revocation.control.as_ref()) {
        reads.push(RedisRead::Control(control.channel.clone()));
    }
    if settings.source.fleet.is_some() {
        reads.push(RedisRead::Fleet);
    }
    Ok(reads)
}

fn read(Topic { subscription, ids, .. }: Topic) -> RedisRead {
    match ids {
        Ids::Entries => RedisRead::Stream(subscription.name),
        Ids::Ours | Ids::Publisher => RedisRead::Subscription(subscription),
    }
}

#[cfg(test)]
mod tests {
    use ssegate::source::redis::RedisRead;
    use ssegate_hub::{ChannelName, Subscription};

    use super::permitted;

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
                vec![RedisRead::Control(name())],
                "it permits what the routes read (1 control channel tested)",
            ),
        ] {
            assert_eq!(permitted(&reads), expected);
        }
    }
}
