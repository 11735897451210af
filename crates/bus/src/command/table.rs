//! The command table, and COMMAND, which describes it.

use ssegate_resp::Value;

use super::spec::{CommandSpec, spec};
use super::words::Words;
use super::{BusClient, CommandResult, connection, pubsub, script, server, transaction};
use super::{keys, stream_info, stream_range, stream_read, stream_write};
use crate::reply;

const MANY: usize = usize::MAX;

/// The most frequent first, because the table is searched in order.
static COMMANDS: &[CommandSpec] = &[
    spec("publish", 3..=3, pubsub::publish),
    spec("xadd", 5..=MANY, stream_write::xadd),
    spec("xread", 4..=MANY, stream_read::xread),
    spec("xrange", 4..=MANY, stream_range::xrange),
    spec("xrevrange", 4..=MANY, stream_range::xrevrange),
    spec("ping", 1..=2, connection::ping).while_subscribed(),
    spec("eval", 3..=MANY, script::eval),
    spec("subscribe", 2..=MANY, pubsub::subscribe).while_subscribed().outside_transaction(),
    spec("psubscribe", 2..=MANY, pubsub::psubscribe).while_subscribed().outside_transaction(),
    spec("unsubscribe", 1..=MANY, pubsub::unsubscribe).while_subscribed().outside_transaction(),
    spec("punsubscribe", 1..=MANY, pubsub::punsubscribe).while_subscribed().outside_transaction(),
    spec("pubsub", 2..=MANY, pubsub::pubsub),
    spec("multi", 1..=1, transaction::multi).controlling_transaction(),
    spec("exec", 1..=1, transaction::exec).controlling_transaction(),
    spec("discard", 1..=1, transaction::discard).controlling_transaction(),
    spec("xlen", 2..=2, stream_info::xlen),
    spec("xinfo", 2..=MANY, stream_info::xinfo),
    spec("xtrim", 4..=MANY, stream_write::xtrim),
    spec("xdel", 3..=MANY, stream_write::xdel),
    spec("del", 2..=MANY, keys::del),
    spec("unlink", 2..=MANY, keys::del),
    spec("exists", 2..=MANY, keys::exists),
    spec("type", 2..=2, keys::key_type),
    spec("expire", 3..=MANY, keys::expire),
    spec("pexpire", 3..=MANY, keys::pexpire),
    spec("ttl", 2..=2, keys::ttl),
    spec("pttl", 2..=2, keys::pttl),
    spec("persist", 2..=2, keys::persist),
    spec("evalsha", 3..=MANY, script::evalsha),
    spec("echo", 2..=2, connection::echo),
    spec("select", 2..=2, connection::select),
    spec("hello", 1..=MANY, connection::hello).outside_transaction(),
    spec("auth", 2..=3, connection::auth),
    spec("client", 2..=MANY, connection::client),
    spec("quit", 1..=MANY, connection::quit).while_subscribed().controlling_transaction(),
    spec("reset", 1..=1, connection::reset).while_subscribed().controlling_transaction(),
    spec("info", 1..=MANY, server::info),
    spec("command", 1..=MANY, command),
    spec("config", 2..=MANY, server::config),
    spec("xreadgroup", 1..=MANY, stream_info::groups),
    spec("xgroup", 1..=MANY, stream_info::groups),
    spec("xack", 1..=MANY, stream_info::groups),
    spec("xpending", 1..=MANY, stream_info::groups),
    spec("xclaim", 1..=MANY, stream_info::groups),
    spec("xautoclaim", 1..=MANY, stream_info::groups),
];

/// Finds a command by name, without regard to case.
pub(super) fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// `COMMAND [COUNT | DOCS | INFO | LIST]`: without documentation, but a valid reply for an
/// interactive redis-cli.
fn command(_: &mut BusClient, words: &Words) -> CommandResult {
    if words.len() == 1 {
        return Ok(Value::Array(Vec::new()));
    }
    match words.keyword(1)?.as_str() {
        "count" => Ok(reply::count(COMMANDS.len())),
        "docs" => Ok(Value::Map(Vec::new())),
        "info" => Ok(Value::Array(vec![Value::Null; words.len() - 2])),
        "list" => Ok(Value::Array(COMMANDS.iter().map(|spec| reply::bulk(spec.name)).collect())),
        _ => Err(words.unknown_subcommand("command")),
    }
}
