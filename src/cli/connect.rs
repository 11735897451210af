//! `ssegate check --connect`: does Redis let us do what the routes need?

use ssegate::config::Settings;
use ssegate::event::{Ids, Topic};
use ssegate::route::Channels;
use ssegate::source::SourceLocation;
use ssegate::source::redis::{Inspection, RedisRead, inspect};

use super::{Error, block_on, output};

/// Why the routes would not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Redis cannot be connected to, or it refuses our user. The address is without user and password.
    #[error("redis.url: Redis at {0}: {1}")]
    Unreachable(String, String),
    /// What Redis refuses was told.
    #[error("redis.url: Redis at {0} refuses what {1} of the routes need")]
    Refused(String, usize),
    /// The routes cannot stand together.
    #[error("{0}")]
    Router(#[from] ssegate::route::RouterError),
}

/// Connects to the Redis of the configuration, and tries what the routes read.
pub(super) fn check(settings: &Settings) -> Result<(), Error> {
    let SourceLocation::Redis(info) = &settings.source.location else {
        return output::line(
            "redis: the embedded bus is in the gateway itself; nothing to connect to",
        );
    };
    let address = info.addr().to_string();
    let reads = reads(settings).map_err(ConnectError::from)?;
    let inspection = block_on(async { Ok(inspect(info, &reads).await) })?;
    let Inspection { server, refused, notes } =
        inspection.map_err(|error| ConnectError::Unreachable(address.clone(), error))?;
    for note in &notes {
        output::to_stderr(format_args!("ssegate: warning: {note}"));
    }
    for refusal in &refused {
        output::to_stderr(format_args!("ssegate: {refusal}"));
    }
    if !refused.is_empty() {
        return Err(ConnectError::Refused(address, refused.len()).into());
    }
    let tried = super::check::count(reads.len(), "name");
    output::line(format_args!("redis: ok: {address}, {server}; {tried} of the routes tried"))
}

/// What the routes read, or names like it: each once.
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
    Ok(reads)
}

fn read(Topic { subscription, ids, .. }: Topic) -> RedisRead {
    match ids {
        Ids::Entries => RedisRead::Stream(subscription.name),
        Ids::Ours | Ids::Publisher => RedisRead::Subscription(subscription),
    }
}
