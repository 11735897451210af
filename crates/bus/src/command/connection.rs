//! Connection commands: PING, HELLO, AUTH, CLIENT and others.

use ssegate_resp::{RespVersion, Value};

use super::error::CommandError;
use super::stream_error::StreamCommandError;
use super::words::Words;
use super::{BusClient, CommandResult, server};
use crate::reply;
use crate::settings::BusSettings;

/// `PING [message]`; a RESP2 client that is subscribed gets the reply as an array.
pub(super) fn ping(client: &mut BusClient, words: &Words) -> CommandResult {
    let message = words.from(1).next().transpose()?.cloned();
    if client.is_subscriber_only() {
        let message = Value::Bulk(message.unwrap_or_default());
        return Ok(Value::Push(vec![reply::bulk("pong"), message]));
    }
    Ok(message.map_or_else(|| reply::simple("PONG"), Value::Bulk))
}

pub(super) fn echo(_: &mut BusClient, words: &Words) -> CommandResult {
    Ok(Value::Bulk(words.bytes(1)?.clone()))
}

/// Accepted and ignored: there are no databases, and pub/sub does not depend on them.
pub(super) fn select(_: &mut BusClient, words: &Words) -> CommandResult {
    words.number(1)?;
    Ok(reply::ok())
}

/// Accepted and ignored: there are no passwords. Anyone who can connect may publish.
pub(super) fn auth(_: &mut BusClient, _: &Words) -> CommandResult {
    Ok(reply::ok())
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
pub(super) fn hello(client: &mut BusClient, words: &Words) -> CommandResult {
    let protocol = match words.len() {
        1 => client.outbox.protocol(),
        _ => protocol(words.bytes(1)?)?,
    };
    let name = hello_options(words)?;
    if let Some(name) = name {
        set_name(client, name)?;
    }
    client.outbox.set_protocol(protocol);
    Ok(server::greeting(client.number, protocol))
}

fn protocol(version: &[u8]) -> Result<RespVersion, CommandError> {
    match version {
        b"2" => Ok(RespVersion::Resp2),
        b"3" => Ok(RespVersion::Resp3),
        _ => Err(CommandError::UnsupportedProtocol),
    }
}

/// Parses the options after the version; returns the name to be set.
fn hello_options(words: &Words) -> Result<Option<&[u8]>, CommandError> {
    let mut name = None;
    let mut next = 2;
    while next < words.len() {
        match words.keyword(next)?.as_str() {
            "auth" if next + 2 < words.len() => next += 3,
            "setname" => {
                name = Some(&words.bytes(next + 1)?[..]);
                next += 2;
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(name)
}

/// `CLIENT …`: what client libraries send after connecting.
pub(super) fn client(client: &mut BusClient, words: &Words) -> CommandResult {
    match (words.keyword(1)?.as_str(), words.len()) {
        ("setname", 3) => {
            set_name(client, words.bytes(2)?)?;
            Ok(reply::ok())
        }
        ("getname", 2) if client.name.is_empty() => Ok(Value::Null),
        ("getname", 2) => Ok(Value::Bulk(client.name.to_vec().into())),
        ("id", 2) => Ok(Value::Integer(i64::try_from(client.number).unwrap_or(i64::MAX))),
        ("info" | "list", _) => Ok(Value::Bulk(description(client).into())),
        // Accepted and ignored.
        ("setinfo", 4) | ("no-evict" | "no-touch", 3) => Ok(reply::ok()),
        ("unblock", 3 | 4) => unblock(client, words),
        ("setname" | "getname" | "id" | "unblock" | "setinfo" | "no-evict" | "no-touch", _) => {
            Err(CommandError::WrongNumberOfArguments("client"))
        }
        _ => Err(words.unknown_subcommand("client")),
    }
}

fn set_name(client: &mut BusClient, name: &[u8]) -> Result<(), CommandError> {
    if name.len() > BusSettings::MAX_NAME_BYTES {
        return Err(CommandError::NameTooLong(name.len()));
    }
    client.name = name.into();
    Ok(())
}

/// `CLIENT UNBLOCK id [TIMEOUT | ERROR]`: ends the XREAD in which another client is blocked.
fn unblock(client: &BusClient, words: &Words) -> CommandResult {
    let reply = match words.len() {
        3 => Value::NullArray,
        _ if words.is(3, "timeout") => Value::NullArray,
        _ if words.is(3, "error") => StreamCommandError::Unblocked.into(),
        _ => return Err(StreamCommandError::UnblockReason.into()),
    };
    let number = u64::try_from(words.integer(2)?).unwrap_or_default();
    Ok(reply::count(usize::from(client.broker.release_reader(number, Some(reply)))))
}

/// One line of `CLIENT LIST`, for the client itself. Other clients are not disclosed.
fn description(client: &BusClient) -> String {
    format!(
        "id={} addr={} name={} sub={} psub={} resp={}\n",
        client.number,
        client.peer,
        client.name.escape_ascii(),
        client.broker.names_of(client.id, false).len(),
        client.broker.names_of(client.id, true).len(),
        server::version_number(client.outbox.protocol()),
    )
}

pub(super) fn quit(client: &mut BusClient, _: &Words) -> CommandResult {
    client.is_closing = true;
    Ok(reply::ok())
}

/// Resets the connection to its initial state.
pub(super) fn reset(client: &mut BusClient, _: &Words) -> CommandResult {
    for is_pattern in [false, true] {
        for name in client.broker.names_of(client.id, is_pattern) {
            client.broker.unsubscribe(client.id, &name, is_pattern);
        }
    }
    client.transaction = None;
    client.name = Box::default();
    client.outbox.set_protocol(RespVersion::Resp2);
    Ok(reply::simple("RESET"))
}
