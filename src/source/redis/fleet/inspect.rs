//! Whether Redis lets the gateway be one of a fleet, for `ssegate check --connect`.

use ssegate_hub::{ChannelName, Subscription};

use super::server::identify;
use crate::source::fleet::{FOR_ALL, FOR_ONE};
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::{SourceError, SourceErrorKind};
use crate::source::redis::problem::RedisProblem;

/// What was found out.
#[derive(Debug, Default)]
pub(in super::super) struct FleetInspection {
    /// Why clients cannot resume at another gateway; `None`: they can.
    pub(in super::super) problem: Option<RedisProblem>,
    /// What is not known for certain.
    pub(in super::super) note: Option<RedisProblem>,
}

/// Tries what a gateway needs on connections that have no subscriptions yet, and changes nothing: gateways
/// ignore an empty message.
///
/// # Errors
/// A connection is lost.
pub(in super::super) async fn inspect(
    pubsub: &mut RedisConnection,
    commands: &mut RedisConnection,
) -> Result<FleetInspection, SourceError> {
    let (followed, published) = (identify(pubsub).await?, identify(commands).await?);
    let mut inspection = FleetInspection::default();
    if !followed.is_known() {
        const NOTE: &str = "Redis refused INFO, by which gateways see that they are at one server";
        let kind = Some(SourceErrorKind::Permission);
        inspection.note = Some(RedisProblem { kind, text: NOTE.to_owned() });
    }
    let of_servers = |text: &str| Some(RedisProblem { kind: None, text: text.to_owned() });
    inspection.problem = if followed.is_cluster {
        of_servers("a Redis Cluster has no one order of messages over its channels")
    } else if followed != published {
        of_servers("the connections lead to several servers; use the address of one")
    } else {
        refused(pubsub, commands).await?
    };
    Ok(inspection)
}

/// What Redis refuses, if anything.
async fn refused(
    pubsub: &mut RedisConnection,
    commands: &mut RedisConnection,
) -> Result<Option<RedisProblem>, SourceError> {
    for channel in [FOR_ALL.to_owned(), format!("{FOR_ONE}check")] {
        let name = ChannelName::new(&channel).expect("it is short and printable");
        let followed = pubsub.subscribe(&Subscription { name, is_pattern: false }).await;
        let published = commands.request("PUBLISH", [&*channel, ""].into_iter()).await;
        for (command, result) in [("SUBSCRIBE", followed), ("PUBLISH", published.map(drop))] {
            match result.map_err(|error| error.for_command(format!("{command} to {channel}"))) {
                Ok(()) => {}
                Err(error @ SourceError::RefusedCommand { .. })
                    if error.kind() != SourceErrorKind::Busy =>
                {
                    return Ok(Some(error.into()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}
