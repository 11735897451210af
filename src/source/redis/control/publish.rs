//! Publishes a revocation.

use std::time::SystemTime;

use ssegate_auth::revocation::MAX_MESSAGE_BYTES;
use ssegate_hub::ChannelName;
use ssegate_resp::Value;

use super::super::error::SourceError;
use super::super::keyed::KeyedConnection;
use super::super::server::RedisServer;
use super::store::RevocationStore;
use crate::source::control::PublishedRevocation;

/// Publishes the signed message of a revocation. If `is_kept`, stores it, too, until it expires: the
/// embedded bus stores nothing.
///
/// # Errors
/// Redis cannot be reached, or refuses to publish it.
pub async fn publish_revocation(
    (server, is_kept): (&RedisServer, bool),
    channel: &ChannelName,
    message: &str,
    expires: SystemTime,
) -> Result<PublishedRevocation, String> {
    let publishing = async {
        let mut connection = KeyedConnection::open(server, MAX_MESSAGE_BYTES).await?;
        let store = is_kept.then(|| RevocationStore::new(channel));
        super::in_time(publish(&mut connection, (channel, store.as_ref()), (message, expires)))
            .await
    };
    publishing.await.map_err(|error: SourceError| error.to_string())
}

/// Stores a message, then publishes it: a gateway that receives it and restarts finds it in the store. A
/// message that cannot be stored is published all the same.
pub(super) async fn publish(
    connection: &mut KeyedConnection,
    (channel, store): (&ChannelName, Option<&RevocationStore>),
    (message, expires): (&str, SystemTime),
) -> Result<PublishedRevocation, SourceError> {
    let stored = match store {
        Some(store) => store.add(connection, message, expires).await,
        None => Ok(()),
    };
    let not_stored = match stored {
        Ok(()) => None,
        Err(error @ SourceError::RefusedCommand { .. }) => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    let arguments = [channel.as_str(), message].into_iter();
    let reply = connection.request(None, "PUBLISH", arguments).await;
    let reply =
        reply.map_err(|error| error.for_command(format!("PUBLISH to the channel {channel:?}")))?;
    match reply {
        Value::Integer(gateways) => {
            let gateways = u64::try_from(gateways).unwrap_or_default();
            Ok(PublishedRevocation { gateways, not_stored })
        }
        other => Err(SourceError::Unexpected(format!("{other:?}"))),
    }
}
