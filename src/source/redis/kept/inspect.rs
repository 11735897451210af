//! Tests what kept streams need of Redis, and leaves nothing behind.

use std::borrow::Cow;

use ssegate_hub::Subscription;

use crate::source::kept::{trial, trial_fault};
use crate::source::redis::error::SourceError;
use crate::source::redis::keyed::KeyedConnection;
use crate::source::redis::script::is_unknown;

/// What the commands are for, in errors.
const WHAT: &str = "with which streams are kept for all gateways";
/// A hash that no script has.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// A channel like those on which gateways notify each other about streams.
///
/// # Errors
/// None: the name is valid.
pub(in super::super) fn notices() -> Result<Subscription, SourceError> {
    super::channel("ssegate:kept:check")
}

/// Tries the scripts on a stream of this id, which nobody has.
///
/// # Errors
/// The connection failed, or Redis refuses something that they need.
pub(in super::super) async fn inspect(
    connection: &mut KeyedConnection,
    id: &str,
) -> Result<(), SourceError> {
    for call in trial(id) {
        let key = Some(call.key.as_str());
        let by_hash = [NO_SCRIPT, "1", &call.key];
        match connection.request(key, "EVALSHA", by_hash.into_iter()).await {
            Err(SourceError::Refused(message)) if is_unknown(&message) => {}
            result => drop(result.map_err(|error| error.for_command(format!("EVALSHA, {WHAT}")))?),
        }
        let words: Vec<Cow<'_, str>> =
            call.words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let arguments = words[1..].iter().map(Cow::as_ref);
        let reply = connection.request(key, &words[0], arguments).await;
        let reply = reply.map_err(|error| error.for_command(format!("a script, {WHAT}")))?;
        if let Some(fault) = trial_fault(&reply) {
            return Err(SourceError::Refused(fault).for_command(format!("PUBLISH, {WHAT}")));
        }
    }
    Ok(())
}
