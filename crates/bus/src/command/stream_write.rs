//! XADD, XTRIM and XDEL.

use bytes::Bytes;
use ssegate_resp::Value;

use super::error::CommandError;
use super::stream_error::StreamCommandError;
use super::words::Words;
use super::{BusClient, CommandResult};
use crate::reply;
use crate::stream_access::unix_ms;
use crate::streams::NewEntry;
use crate::streams::id::{StreamId, WantedId};
use crate::streams::reply::id_text;
use crate::streams::stream::StreamFields;
use crate::streams::trim::{StreamTrim, TrimStrategy};

/// The options before the id of XADD, or all of XTRIM.
#[derive(Default)]
struct WriteOptions {
    strategy: Option<TrimStrategy>,
    is_about: bool,
    limit: Option<usize>,
    is_nomkstream: bool,
}

/// `XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] id field value [field value …]`
pub(super) fn xadd(client: &mut BusClient, words: &Words) -> CommandResult {
    if let Some(len) = words.too_long() {
        client.broker.counters().message_was_oversized();
        let max = client.broker.settings().max_event_bytes;
        return Err(CommandError::MessageTooLarge { len, max });
    }
    let (options, id) = WriteOptions::parse(words, true)?;
    let trim = options.trim(false)?;
    let Some((first_field, wanted)) = id else {
        return Err(CommandError::WrongNumberOfArguments("xadd"));
    };
    let fields = words.len() - first_field;
    if fields < 2 || !fields.is_multiple_of(2) {
        return Err(CommandError::WrongNumberOfArguments("xadd"));
    }
    if wanted == WantedId::Explicit(StreamId::MIN) {
        return Err(StreamCommandError::ZeroId.into());
    }
    let fields = words.from(first_field).collect::<Result<Vec<_>, _>>()?;
    let fields = StreamFields::copy(fields.iter().map(|word: &&Bytes| &word[..]));
    let entry = NewEntry { id: wanted, fields, trim, creates: !options.is_nomkstream };
    let id = client.broker.add(words.bytes(1)?, entry)?;
    Ok(id.map_or(Value::Null, id_text))
}

/// `XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT count]`
pub(super) fn xtrim(client: &mut BusClient, words: &Words) -> CommandResult {
    let (options, _) = WriteOptions::parse(words, false)?;
    let trim = options.trim(true)?.ok_or(StreamCommandError::NoStrategy)?;
    let trimmed = client.broker.streams(unix_ms()).trim(words.bytes(1)?, &trim);
    client.broker.record_streams();
    Ok(reply::count(trimmed))
}

/// `XDEL key id [id …]`
pub(super) fn xdel(client: &mut BusClient, words: &Words) -> CommandResult {
    let name = words.bytes(1)?;
    let mut streams = client.broker.streams(unix_ms());
    if streams.get(name).is_none() {
        return Ok(reply::count(0));
    }
    let ids = words.from(2).map(|id| Ok(StreamId::parse(id?, 0)));
    let ids: Option<Vec<_>> = ids.collect::<Result<_, CommandError>>()?;
    let deleted = streams.delete_entries(name, &ids.ok_or(StreamCommandError::InvalidId)?);
    drop(streams);
    client.broker.record_streams();
    Ok(reply::count(deleted))
}

impl WriteOptions {
    /// Parses the options; of XADD also the id, and returns where the fields begin.
    fn parse(
        words: &Words,
        is_xadd: bool,
    ) -> Result<(Self, Option<(usize, WantedId)>), CommandError> {
        let mut options = Self::default();
        let mut at = 2;
        while at < words.len() {
            let has_more = at + 1 < words.len();
            if words.is(at, "maxlen") && has_more {
                at = options.strategy(words, at, |index| {
                    let most = words.integer(index)?;
                    let most = usize::try_from(most)
                        .map_err(|_negative| StreamCommandError::Negative("MAXLEN"))?;
                    Ok(TrimStrategy::MaxLen(most))
                })?;
            } else if words.is(at, "minid") && has_more {
                at = options.strategy(words, at, |index| {
                    let first = StreamId::parse(words.bytes(index)?, 0);
                    Ok(TrimStrategy::MinId(first.ok_or(StreamCommandError::InvalidId)?))
                })?;
            } else if words.is(at, "limit") && has_more {
                let limit = usize::try_from(words.integer(at + 1)?);
                options.limit =
                    Some(limit.map_err(|_negative| StreamCommandError::Negative("LIMIT"))?);
                at += 2;
            } else if is_xadd && words.is(at, "nomkstream") {
                options.is_nomkstream = true;
                at += 1;
            } else if is_xadd {
                let id = WantedId::parse(words.bytes(at)?);
                return Ok((options, Some((at + 1, id.ok_or(StreamCommandError::InvalidId)?))));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok((options, None))
    }

    /// Parses one strategy at `at`. Returns where the next option is.
    fn strategy(
        &mut self,
        words: &Words,
        at: usize,
        parse: impl FnOnce(usize) -> Result<TrimStrategy, CommandError>,
    ) -> Result<usize, CommandError> {
        if self.strategy.is_some() {
            return Err(StreamCommandError::TwoStrategies.into());
        }
        let has_sign = at + 2 < words.len() && (words.is(at + 1, "~") || words.is(at + 1, "="));
        self.is_about = has_sign && words.is(at + 1, "~");
        let threshold = at + 1 + usize::from(has_sign);
        self.strategy = Some(parse(threshold)?);
        Ok(threshold + 1)
    }

    fn trim(&self, is_xtrim: bool) -> Result<Option<StreamTrim>, StreamCommandError> {
        let limits = self.limit.is_some_and(|limit| limit > 0);
        match self.strategy {
            None if limits => Err(StreamCommandError::LimitWithoutStrategy),
            None if is_xtrim => Err(StreamCommandError::NoStrategy),
            None if self.limit.is_some() => Err(StreamCommandError::LimitWithoutTilde),
            None => Ok(None),
            Some(_) if self.limit.is_some() && !self.is_about => {
                Err(StreamCommandError::LimitWithoutTilde)
            }
            Some(strategy) if self.is_about && self.limit.is_none() => {
                Ok(Some(StreamTrim::about(strategy)))
            }
            // `LIMIT 0` is none.
            Some(strategy) => {
                Ok(Some(StreamTrim { strategy, limit: self.limit.filter(|_| limits) }))
            }
        }
    }
}
