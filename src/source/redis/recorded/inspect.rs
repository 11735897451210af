//! Tries what recorded channels need of Redis, and leaves nothing behind.

use ssegate_hub::{ChannelName, Subscription};
use ssegate_resp::Value;

use crate::source::recorded::{MARKS, RecordedSettings};
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::SourceError;
use crate::source::redis::script::is_unknown;

/// See the first lines of the script.
const CHECK: &str = include_str!("check.lua");

/// A channel that no client has.
const CHANNEL: &str = "ssegate-check";

/// A hash that no script has.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// Tries the scripts.
///
/// # Errors
/// The connection failed, or Redis refuses something that they need.
pub(in super::super) async fn inspect(
    connection: &mut RedisConnection,
    settings: &RecordedSettings,
) -> Result<(), SourceError> {
    let key = settings.log_key(CHANNEL);
    let refused = |error: SourceError, command: &str| {
        error.for_command(format!("{command}, with which channels are recorded"))
    };
    let called = connection.request("EVALSHA", [NO_SCRIPT, "1", &key].into_iter()).await;
    match called {
        Err(SourceError::Refused(message)) if is_unknown(&message) => {}
        result => drop(result.map_err(|error| refused(error, "EVALSHA"))?),
    }
    let words = [CHECK, "1", &key, MARKS];
    let tried = connection.request("EVAL", words.into_iter()).await;
    match fault(&tried.map_err(|error| refused(error, "EVAL"))?) {
        None => Ok(()),
        Some((command, message)) => Err(refused(SourceError::Refused(message), &command)),
    }
}

/// The channel on which gateways that record publish marks for each other.
///
/// # Errors
/// It is no name of a channel, which does not happen.
pub(in super::super) fn marks() -> Result<Subscription, SourceError> {
    let name =
        ChannelName::new(MARKS).map_err(|error| SourceError::Unexpected(error.to_string()))?;
    Ok(Subscription { name, is_pattern: false })
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
