//! Tries what recorded channels need of Redis, and leaves nothing behind.

use ssegate_hub::{ChannelName, InvalidChannelName};
use ssegate_resp::Value;

use super::order::RecordOrder;
use crate::source::recorded::RecordedSettings;
use crate::source::redis::cluster::slot_of;
use crate::source::redis::error::SourceError;
use crate::source::redis::keyed::KeyedConnection;
use crate::source::redis::script::is_unknown;

/// See the first lines of the script.
const CHECK: &str = include_str!("check.lua");

/// A hash that no script has.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// Tries the scripts, those for sharded channels or those for others, on a channel that no client has.
///
/// # Errors
/// The connection failed, or Redis refuses something that they need.
pub(in super::super) async fn inspect(
    connection: &mut KeyedConnection,
    settings: &RecordedSettings,
    (channel, is_sharded): (&str, bool),
) -> Result<(), SourceError> {
    let (order, name) = (order(channel, is_sharded), ChannelName::new(channel).map_err(invalid)?);
    let key = order.log_key(settings, &name);
    let refused = |error: SourceError, command: &str| {
        error.for_command(format!("{command}, with which channels are recorded"))
    };
    let called =
        connection.request(Some(&key), "EVALSHA", [NO_SCRIPT, "1", &key].into_iter()).await;
    match called {
        Err(SourceError::Refused(message)) if is_unknown(&message) => {}
        result => drop(result.map_err(|error| refused(error, "EVALSHA"))?),
    }
    let (marks, kind) = (order.marks(), if is_sharded { "s" } else { "" });
    let words = [CHECK, "1", &key, &marks, kind];
    let tried = connection.request(Some(&key), "EVAL", words.into_iter()).await;
    match fault(&tried.map_err(|error| refused(error, "EVAL"))?) {
        None => Ok(()),
        Some((command, message)) => Err(refused(SourceError::Refused(message), &command)),
    }
}

/// The channel on which gateways that record `channel` publish marks for each other.
///
/// # Errors
/// It is no name of a channel, which does not happen.
pub(in super::super) fn marks(channel: &str, is_sharded: bool) -> Result<ChannelName, SourceError> {
    let marks = order(channel, is_sharded).marks();
    let name = match is_sharded {
        true => ChannelName::sharded(&marks),
        false => ChannelName::new(&marks),
    };
    name.map_err(invalid)
}

/// The order that a channel is in.
fn order(channel: &str, is_sharded: bool) -> RecordOrder {
    match is_sharded {
        true => RecordOrder::of_slot(slot_of(channel.as_bytes())),
        false => RecordOrder::Server,
    }
}

fn invalid(error: InvalidChannelName) -> SourceError {
    SourceError::Unexpected(error.to_string())
}

/// The command that the script was refused, and how.
fn fault(reply: &Value) -> Option<(String, String)> {
    let text = |value: &Value| match value {
        Value::Error(message) => Some(String::from_utf8_lossy(message).into_owned()),
        value => value.as_bytes().map(|text| String::from_utf8_lossy(text).into_owned()),
    };
    match reply {
        Value::Array(parts) if parts.is_empty() => None,
        Value::Array(parts) => {
            let mut texts = parts.iter().filter_map(text);
            Some((texts.next()?, texts.next().unwrap_or_default()))
        }
        reply => Some(("EVAL".to_owned(), format!("{reply:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::CHECK;

    #[test]
    fn every_command_of_the_scripts_is_tried() {
        let scripts = [
            include_str!("append.lua"),
            include_str!("mark.lua"),
            include_str!("newest.lua"),
            include_str!("read.lua"),
        ];
        let calls = scripts.iter().flat_map(|script| script.split("call('").skip(1));
        let commands: Vec<&str> = calls.filter_map(|call| call.split('\'').next()).collect();
        assert!(commands.len() >= 10, "{commands:?}");
        for command in commands {
            assert!(CHECK.contains(&format!("  {{'{command}'")), "{command}");
        }
    }
}
