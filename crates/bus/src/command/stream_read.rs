//! XREAD, which may wait for entries.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ssegate_resp::Value;
use tokio::time::Instant;

use super::error::CommandError;
use super::stream_error::StreamCommandError;
use super::words::Words;
use super::{Blocked, BusClient, CommandResult};
use crate::settings::BusSettings;
use crate::stream_access::unix_ms;
use crate::streams::id::StreamId;
use crate::streams::reply::{entries_after, read_streams};
use crate::streams::waiting::BlockedRead;

/// What XREAD asks for.
struct ReadOptions {
    count: usize,
    /// How long it waits, in milliseconds; 0: for ever. `None`: it does not.
    block: Option<u64>,
    /// Where the names begin, and how many there are.
    names: usize,
    streams: usize,
}

/// `XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key …] id [id …]`
pub(super) fn xread(client: &mut BusClient, words: &Words) -> CommandResult {
    let options = ReadOptions::parse(words)?;
    let wanted = wanted(client, words, &options)?;
    let (mut read, mut is_short) = (Vec::new(), false);
    {
        let streams = client.broker.streams(unix_ms());
        for (name, after) in &wanted {
            let Some(stream) = streams.get(name) else { continue };
            if stream.newest_id().is_some_and(|newest| newest > *after) {
                let allowance = &mut client.allowance;
                let entries = entries_after(stream, *after, options.count, allowance);
                is_short |= entries.is_empty();
                if !entries.is_empty() {
                    read.push((name.clone(), entries));
                }
            }
        }
    }
    match options.block {
        _ if !read.is_empty() => Ok(read_streams(read, client.outbox.protocol())),
        _ if is_short => Err(StreamCommandError::ReplyTooLong.into()),
        // As in Redis, a transaction does not wait.
        Some(timeout) if !client.is_in_exec => block(client, wanted, options.count, timeout),
        _ => Ok(Value::NullArray),
    }
}

/// The streams, each with the id after which entries are wanted.
fn wanted(
    client: &BusClient,
    words: &Words,
    options: &ReadOptions,
) -> Result<Vec<(Bytes, StreamId)>, CommandError> {
    let streams = client.broker.streams(unix_ms());
    let mut wanted = Vec::with_capacity(options.streams);
    for index in options.names..options.names + options.streams {
        let (name, id) = (words.bytes(index)?, words.bytes(index + options.streams)?);
        let after = match &id[..] {
            b"$" => streams.get(name).map(|stream| stream.last_id()).unwrap_or_default(),
            b">" => return Err(StreamCommandError::NewInGroup.into()),
            id => StreamId::parse(id, 0).ok_or(StreamCommandError::InvalidId)?,
        };
        wanted.push((name.clone(), after));
    }
    Ok(wanted)
}

/// Waits for an entry. There is no reply yet, and what this returns is not sent.
fn block(
    client: &mut BusClient,
    wanted: Vec<(Bytes, StreamId)>,
    count: usize,
    timeout: u64,
) -> CommandResult {
    if let Some((name, _)) =
        wanted.iter().find(|(name, _)| name.len() > BusSettings::MAX_NAME_BYTES)
    {
        return Err(CommandError::NameTooLong(name.len()));
    }
    // Names of their own, which do not keep the read buffer alive.
    let copy = |(name, after): (Bytes, _)| (Bytes::copy_from_slice(&name), after);
    let wanted = wanted.into_iter().map(copy).collect();
    let outbox = Rc::clone(&client.outbox);
    let read = client.broker.block_reader(BlockedRead::new(client.number, wanted, count, outbox));
    let until = (timeout > 0).then(|| Instant::now().checked_add(Duration::from_millis(timeout)));
    client.blocked = Some(Blocked { read, until: until.flatten() });
    Ok(Value::NullArray)
}

impl ReadOptions {
    fn parse(words: &Words) -> Result<Self, CommandError> {
        let (mut count, mut block, mut at) = (usize::MAX, None, 1);
        while at < words.len() {
            let more = words.len() - at - 1;
            if words.is(at, "block") && more > 0 {
                block = Some(timeout(words, at + 1)?);
                at += 2;
            } else if words.is(at, "count") && more > 0 {
                let most = usize::try_from(words.integer(at + 1)?).unwrap_or(0);
                // Zero is all of them.
                count = if most == 0 { usize::MAX } else { most };
                at += 2;
            } else if words.is(at, "streams") && more > 0 {
                if !more.is_multiple_of(2) {
                    return Err(StreamCommandError::Unbalanced.into());
                }
                return Ok(Self { count, block, names: at + 1, streams: more / 2 });
            } else if words.is(at, "group") && more > 1 {
                return Err(StreamCommandError::OnlyInGroups("GROUP").into());
            } else if words.is(at, "noack") {
                return Err(StreamCommandError::OnlyInGroups("NOACK").into());
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Err(CommandError::Syntax)
    }
}

fn timeout(words: &Words, index: usize) -> Result<u64, CommandError> {
    let timeout =
        words.integer(index).map_err(|_not_a_number| StreamCommandError::TimeoutNotANumber)?;
    u64::try_from(timeout).map_err(|_negative| StreamCommandError::NegativeTimeout.into())
}
