//! XLEN and XINFO; and the commands about consumer groups, of which there are none.

use ssegate_resp::Value;

use super::error::CommandError;
use super::stream_error::StreamCommandError;
use super::words::Words;
use super::{BusClient, CommandResult};
use crate::reply;
use crate::stream_access::unix_ms;
use crate::streams::id::StreamId;
use crate::streams::reply::{ReplyAllowance, entry, id_text};
use crate::streams::stream::BusStream;

/// Entries in one node of the tree in which Redis keeps them.
const NODE: usize = 100;

/// Entries that XINFO STREAM FULL returns without COUNT.
const FULL_COUNT: usize = 10;

/// `XLEN key`
pub(super) fn xlen(client: &mut BusClient, words: &Words) -> CommandResult {
    let streams = client.broker.streams(unix_ms());
    Ok(reply::count(streams.get(words.bytes(1)?).map_or(0, BusStream::len)))
}

/// `XINFO STREAM key [FULL [COUNT count]]`; `XINFO GROUPS key`, which are none.
pub(super) fn xinfo(client: &mut BusClient, words: &Words) -> CommandResult {
    match (words.keyword(1)?.as_str(), words.len()) {
        ("stream", 3..) => stream(client, words),
        ("stream", _) => Err(CommandError::WrongNumberOfArguments("xinfo|stream")),
        ("groups", 3) => match client.broker.streams(unix_ms()).get(words.bytes(2)?) {
            Some(_) => Ok(Value::Array(Vec::new())),
            None => Err(CommandError::NoSuchKey),
        },
        ("groups", _) => Err(CommandError::WrongNumberOfArguments("xinfo|groups")),
        ("consumers", _) => Err(StreamCommandError::Groups("XINFO CONSUMERS".into()).into()),
        _ => Err(words.unknown_subcommand("xinfo")),
    }
}

/// Refuses a command about consumer groups.
pub(super) fn groups(_: &mut BusClient, words: &Words) -> CommandResult {
    let name = String::from_utf8_lossy(words.name()?).to_ascii_uppercase();
    Err(StreamCommandError::Groups(name).into())
}

fn stream(client: &mut BusClient, words: &Words) -> CommandResult {
    let streams = client.broker.streams(unix_ms());
    let stream = streams.get(words.bytes(2)?).ok_or(CommandError::NoSuchKey)?;
    let mut pairs = common(stream);
    let allowance = &mut client.allowance;
    if let Some(count) = full_count(words)? {
        let entries = entries(stream, count, allowance)?;
        pairs.extend([
            (reply::bulk("entries"), Value::Array(entries)),
            (reply::bulk("groups"), Value::Array(Vec::new())),
        ]);
    } else {
        let mut range = stream.range(StreamId::MIN, StreamId::MAX);
        let (first, last) = (range.next(), stream.range(StreamId::MIN, StreamId::MAX).next_back());
        pairs.push((reply::bulk("groups"), reply::count(0)));
        for (key, edge) in [("first-entry", first), ("last-entry", last)] {
            let edge = match edge {
                Some(edge) if allowance.take(edge.1) => entry(edge),
                Some(_) => return Err(StreamCommandError::ReplyTooLong.into()),
                None => Value::Null,
            };
            pairs.push((reply::bulk(key), edge));
        }
    }
    Ok(Value::Map(pairs))
}

/// What both forms begin with.
fn common(stream: &BusStream) -> Vec<(Value, Value)> {
    // The bus has no such tree. Redis has about this many nodes where entries are small.
    let keys = stream.len().div_ceil(NODE);
    let added = i64::try_from(stream.entries_added()).unwrap_or(i64::MAX);
    vec![
        (reply::bulk("length"), reply::count(stream.len())),
        (reply::bulk("radix-tree-keys"), reply::count(keys)),
        (reply::bulk("radix-tree-nodes"), reply::count(keys + 1)),
        (reply::bulk("last-generated-id"), id_text(stream.last_id())),
        (reply::bulk("max-deleted-entry-id"), id_text(stream.max_deleted_id())),
        (reply::bulk("entries-added"), Value::Integer(added)),
        (reply::bulk("recorded-first-entry-id"), id_text(stream.first_id())),
    ]
}

/// How many entries XINFO STREAM FULL is to return; `None`: it is not the full form.
fn full_count(words: &Words) -> Result<Option<usize>, CommandError> {
    if words.len() == 3 {
        return Ok(None);
    }
    let is_full = words.is(3, "full");
    match words.len() {
        4 if is_full => Ok(Some(FULL_COUNT)),
        6 if is_full && words.is(4, "count") => Ok(Some(match words.integer(5)? {
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(FULL_COUNT),
        })),
        _ => {
            let subcommand = String::from_utf8_lossy(words.bytes(1)?).into_owned();
            Err(CommandError::SubcommandSyntax(subcommand, "XINFO"))
        }
    }
}

fn entries(
    stream: &BusStream,
    count: usize,
    allowance: &mut ReplyAllowance,
) -> Result<Vec<Value>, StreamCommandError> {
    let entries = stream.range(StreamId::MIN, StreamId::MAX).take(count);
    let entries: Option<Vec<_>> =
        entries.map(|one| allowance.take(one.1).then(|| entry(one))).collect();
    entries.ok_or(StreamCommandError::ReplyTooLong)
}
