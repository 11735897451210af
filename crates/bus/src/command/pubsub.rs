//! PUBLISH, SUBSCRIBE and its relatives, PUBSUB.

use bytes::Bytes;
use ssegate_resp::{Payload, Value};

use super::error::CommandError;
use super::words::Words;
use super::{BusClient, CommandResult};
use crate::broker::TooManySubscriptions;
use crate::reply;
use crate::settings::BusSettings;

/// `PUBLISH channel message`: replies with the number of deliveries.
pub(super) fn publish(client: &mut BusClient, words: &Words) -> CommandResult {
    publish_to(client, words.bytes(1)?, &words.payload(2)?).map(reply::count)
}

/// Publishes one message. If it is too large, outlets get its length and the publisher gets an
/// error.
pub(super) fn publish_to(
    client: &BusClient,
    channel: &Bytes,
    payload: &Payload,
) -> Result<usize, CommandError> {
    let delivered = client.broker.publish(check_name(channel)?, payload);
    match payload {
        Payload::Whole(_) => Ok(delivered),
        Payload::TooLarge(len) => Err(CommandError::MessageTooLarge {
            len: *len,
            max: client.broker.settings().max_event_bytes,
        }),
    }
}

pub(super) fn subscribe(client: &mut BusClient, words: &Words) -> CommandResult {
    subscribe_all(client, words, "subscribe", false)
}

pub(super) fn psubscribe(client: &mut BusClient, words: &Words) -> CommandResult {
    subscribe_all(client, words, "psubscribe", true)
}

pub(super) fn unsubscribe(client: &mut BusClient, words: &Words) -> CommandResult {
    unsubscribe_all(client, words, "unsubscribe", false)
}

pub(super) fn punsubscribe(client: &mut BusClient, words: &Words) -> CommandResult {
    unsubscribe_all(client, words, "punsubscribe", true)
}

/// `PUBSUB CHANNELS [pattern]`, `PUBSUB NUMSUB [channel …]`, `PUBSUB NUMPAT`
pub(super) fn pubsub(client: &mut BusClient, words: &Words) -> CommandResult {
    match (words.keyword(1)?.as_str(), words.len()) {
        ("channels", 2 | 3) => {
            let pattern = words.from(2).next().transpose()?;
            let pattern = pattern.map(|pattern| check_name(pattern)).transpose()?;
            let channels = client.broker.channels(pattern);
            Ok(Value::Array(channels.into_iter().map(Value::Bulk).collect()))
        }
        ("numsub", _) => {
            let mut counts = Vec::new();
            for channel in words.from(2) {
                let channel = channel?;
                let subscribers = client.broker.subscribers(channel);
                counts.extend([Value::Bulk(channel.clone()), reply::count(subscribers)]);
            }
            Ok(Value::Array(counts))
        }
        ("numpat", 2) => Ok(reply::count(client.broker.patterns())),
        ("channels" | "numpat", _) => Err(CommandError::WrongNumberOfArguments("pubsub")),
        _ => Err(words.unknown_subcommand("pubsub")),
    }
}

/// Each name gets a confirmation of its own; the last one is the reply of the command.
fn subscribe_all(
    client: &BusClient,
    words: &Words,
    verb: &'static str,
    is_pattern: bool,
) -> CommandResult {
    let mut last = None;
    for name in words.from(1) {
        if let Some(previous) = last.take() {
            client.outbox.reply(previous);
        }
        let name = name?;
        client
            .broker
            .subscribe(client.id, check_name(name)?, is_pattern)
            .map_err(|TooManySubscriptions| CommandError::TooManySubscriptions)?;
        last = Some(confirmation(client, verb, Value::Bulk(name.clone())));
    }
    last.ok_or(CommandError::WrongNumberOfArguments(verb))
}

/// Without names, unsubscribes from all. One confirmation for each name, and one if there was none.
fn unsubscribe_all(
    client: &BusClient,
    words: &Words,
    verb: &'static str,
    is_pattern: bool,
) -> CommandResult {
    let names = if words.len() > 1 {
        words.from(1).map(|name| name.cloned()).collect::<Result<Vec<_>, _>>()?
    } else {
        let all = client.broker.names_of(client.id, is_pattern);
        all.iter().map(|name| Bytes::copy_from_slice(name)).collect()
    };
    let mut last = None;
    for name in names {
        client.broker.unsubscribe(client.id, &name, is_pattern);
        if let Some(previous) = last.replace(confirmation(client, verb, Value::Bulk(name))) {
            client.outbox.reply(previous);
        }
    }
    Ok(last.unwrap_or_else(|| confirmation(client, verb, Value::Null)))
}

fn confirmation(client: &BusClient, verb: &'static str, name: Value) -> Value {
    let subscriptions = client.broker.subscriptions_of(client.id);
    Value::Push(vec![reply::bulk(verb), name, reply::count(subscriptions)])
}

/// Checks the length of a name.
fn check_name(name: &Bytes) -> Result<&[u8], CommandError> {
    if name.len() > BusSettings::MAX_NAME_BYTES {
        return Err(CommandError::NameTooLong(name.len()));
    }
    Ok(name)
}
