//! XRANGE and XREVRANGE.

use ssegate_resp::Value;

use super::error::CommandError;
use super::stream_error::StreamCommandError;
use super::words::Words;
use super::{BusClient, CommandResult};
use crate::stream_access::unix_ms;
use crate::streams::id::StreamId;
use crate::streams::reply::entry;

/// `XRANGE key start end [COUNT count]`
pub(super) fn xrange(client: &mut BusClient, words: &Words) -> CommandResult {
    range(client, words, false)
}

/// `XREVRANGE key end start [COUNT count]`
pub(super) fn xrevrange(client: &mut BusClient, words: &Words) -> CommandResult {
    range(client, words, true)
}

fn range(client: &mut BusClient, words: &Words, is_reverse: bool) -> CommandResult {
    let (start, end) = if is_reverse { (3, 2) } else { (2, 3) };
    let (start, is_start_excluded) = bound(words, start, 0)?;
    let start = if is_start_excluded { start.next() } else { Some(start) };
    let start = start.ok_or(StreamCommandError::IntervalStart)?;
    let (end, is_end_excluded) = bound(words, end, u64::MAX)?;
    let end = if is_end_excluded { end.previous() } else { Some(end) };
    let end = end.ok_or(StreamCommandError::IntervalEnd)?;
    let count = count(words)?;
    let streams = client.broker.streams(unix_ms());
    let Some(stream) = streams.get(words.bytes(1)?) else { return Ok(Value::Array(Vec::new())) };
    if count == Some(0) {
        return Ok(Value::NullArray);
    }
    let (entries, count) = (stream.range(start, end), count.unwrap_or(usize::MAX));
    let allow = |one: (StreamId, _)| client.allowance.take(one.1).then(|| entry(one));
    let entries: Option<Vec<_>> = match is_reverse {
        false => entries.take(count).map(allow).collect(),
        true => entries.rev().take(count).map(allow).collect(),
    };
    Ok(Value::Array(entries.ok_or(StreamCommandError::ReplyTooLong)?))
}

/// Parses a bound, and whether it is excluded.
fn bound(
    words: &Words,
    index: usize,
    missing_seq: u64,
) -> Result<(StreamId, bool), StreamCommandError> {
    let id = match words.bytes(index).map(|word| &word[..]) {
        Ok([b'(', id @ ..]) if !id.is_empty() => (StreamId::parse(id, missing_seq), true),
        Ok(id) => (StreamId::parse_bound(id, missing_seq), false),
        Err(_too_long) => (None, false),
    };
    id.0.map(|parsed| (parsed, id.1)).ok_or(StreamCommandError::InvalidId)
}

/// Parses the options; the last COUNT counts. Below zero it is zero.
fn count(words: &Words) -> Result<Option<usize>, CommandError> {
    let (mut count, mut at) = (None, 4);
    while at < words.len() {
        if !words.is(at, "count") || at + 1 == words.len() {
            return Err(CommandError::Syntax);
        }
        count = Some(usize::try_from(words.integer(at + 1)?).unwrap_or(0));
        at += 2;
    }
    Ok(count)
}
