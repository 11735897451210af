//! EVAL, for the one script that backends publish with: Laravel's.
//!
//! Its `redis` broadcaster publishes one message to many channels with `EVAL`
//! (<https://github.com/laravel/framework/blob/12.x/src/Illuminate/Broadcasting/Broadcasters/RedisBroadcaster.php>).
//! There is no Lua interpreter; the script is recognized by its text.

use ssegate_resp::Value;

use super::error::CommandError;
use super::pubsub::publish_to;
use super::words::Words;
use super::{BusClient, CommandResult};

/// The script without white space.
const PUBLISH_TO_ALL: &[u8] = b"fori=2,#ARGVdoredis.call('publish',ARGV[i],ARGV[1])end";

/// `EVAL script numkeys [key …] message [channel …]`
pub(super) fn eval(client: &mut BusClient, words: &Words) -> CommandResult {
    if !is_publish_to_all(words.bytes(1)?) {
        return Err(CommandError::UnknownScript);
    }
    let message = words.number(2)?.saturating_add(3);
    if message > words.len() {
        return Err(CommandError::TooManyKeys);
    }
    if message == words.len() {
        // No ARGV: the loop runs zero times.
        return Ok(Value::Null);
    }
    let payload = words.payload(message)?;
    for channel in words.from(message + 1) {
        publish_to(client, channel?, &payload)?;
    }
    Ok(Value::Null)
}

/// No scripts are cached, so clients retry with EVAL.
pub(super) fn evalsha(_: &mut BusClient, _: &Words) -> CommandResult {
    Err(CommandError::NoScript)
}

fn is_publish_to_all(script: &[u8]) -> bool {
    let text = script.iter().filter(|byte| !byte.is_ascii_whitespace());
    let quoted_alike = text.map(|byte| if *byte == b'"' { b'\'' } else { *byte });
    quoted_alike.eq(PUBLISH_TO_ALL.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::is_publish_to_all;

    #[test]
    fn laravels_script_is_recognized_with_any_indentation() {
        let laravel = "for i = 2, #ARGV do\n  redis.call('publish', ARGV[i], ARGV[1])\nend";
        assert!(is_publish_to_all(laravel.as_bytes()));
        assert!(is_publish_to_all(laravel.replace('\n', "\r\n\t").as_bytes()));
        assert!(is_publish_to_all(laravel.replace('\'', "\"").as_bytes()));
        assert!(!is_publish_to_all(b"return 1"));
        assert!(!is_publish_to_all(format!("{laravel} return 1").as_bytes()));
        assert!(!is_publish_to_all(b""));
    }
}
