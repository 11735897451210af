//! Commands about keys, all of which are streams: DEL, EXISTS, TYPE, EXPIRE and its relatives.

use ssegate_resp::Value;

use super::error::CommandError;
use super::stream_error::StreamCommandError;
use super::words::Words;
use super::{BusClient, CommandResult};
use crate::reply;
use crate::stream_access::unix_ms;

/// The options of EXPIRE.
#[derive(Clone, Copy, Default)]
struct ExpireOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

/// `DEL key [key …]` and `UNLINK`.
pub(super) fn del(client: &mut BusClient, words: &Words) -> CommandResult {
    let mut removed = 0;
    for name in words.from(1) {
        removed += usize::from(client.broker.streams(unix_ms()).remove(name?));
    }
    client.broker.record_streams();
    Ok(reply::count(removed))
}

/// `EXISTS key [key …]`: a key that is named twice counts twice.
pub(super) fn exists(client: &mut BusClient, words: &Words) -> CommandResult {
    let streams = client.broker.streams(unix_ms());
    let mut existing = 0;
    for name in words.from(1) {
        existing += usize::from(streams.get(name?).is_some());
    }
    Ok(reply::count(existing))
}

/// `TYPE key`
pub(super) fn key_type(client: &mut BusClient, words: &Words) -> CommandResult {
    let streams = client.broker.streams(unix_ms());
    Ok(reply::simple(streams.get(words.bytes(1)?).map_or("none", |_| "stream")))
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub(super) fn expire(client: &mut BusClient, words: &Words) -> CommandResult {
    expire_after(client, words, ("expire", 1000))
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub(super) fn pexpire(client: &mut BusClient, words: &Words) -> CommandResult {
    expire_after(client, words, ("pexpire", 1))
}

/// `TTL key`: -2 without a key, -1 without an expiry.
pub(super) fn ttl(client: &mut BusClient, words: &Words) -> CommandResult {
    // Rounded, as in Redis.
    time_left(client, words, |milliseconds| (milliseconds + 500) / 1000)
}

/// `PTTL key`
pub(super) fn pttl(client: &mut BusClient, words: &Words) -> CommandResult {
    time_left(client, words, |milliseconds| milliseconds)
}

/// `PERSIST key`
pub(super) fn persist(client: &mut BusClient, words: &Words) -> CommandResult {
    let name = words.bytes(1)?;
    let mut streams = client.broker.streams(unix_ms());
    let expires = streams.expiry(name).flatten().is_some();
    streams.set_expiry(name, None);
    Ok(reply::count(usize::from(expires)))
}

fn time_left(client: &BusClient, words: &Words, unit: fn(i64) -> i64) -> CommandResult {
    let now = unix_ms();
    Ok(Value::Integer(match client.broker.streams(now).expiry(words.bytes(1)?) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => unit(at - now),
    }))
}

fn expire_after(
    client: &BusClient,
    words: &Words,
    (command, unit): (&'static str, i64),
) -> CommandResult {
    let (options, now) = (ExpireOptions::parse(words)?, unix_ms());
    let at = words.integer(2)?.checked_mul(unit).and_then(|after| now.checked_add(after));
    let at = at.ok_or(StreamCommandError::ExpireTime(command))?;
    let name = words.bytes(1)?;
    let mut streams = client.broker.streams(now);
    let Some(before) = streams.expiry(name) else { return Ok(reply::count(0)) };
    if !options.allow(before, at) {
        return Ok(reply::count(0));
    }
    if at <= now {
        streams.remove(name);
    } else {
        streams.set_expiry(name, Some(at));
    }
    drop(streams);
    client.broker.record_streams();
    Ok(reply::count(1))
}

impl ExpireOptions {
    fn parse(words: &Words) -> Result<Self, CommandError> {
        let mut options = Self::default();
        for index in 3..words.len() {
            match words.keyword(index)?.as_str() {
                "nx" => options.nx = true,
                "xx" => options.xx = true,
                "gt" => options.gt = true,
                "lt" => options.lt = true,
                _ => {
                    let option = String::from_utf8_lossy(words.bytes(index)?).into_owned();
                    return Err(StreamCommandError::ExpireOption(option).into());
                }
            }
        }
        if options.nx && (options.xx || options.gt || options.lt) {
            return Err(StreamCommandError::ExpireNx.into());
        }
        if options.gt && options.lt {
            return Err(StreamCommandError::ExpireGtLt.into());
        }
        Ok(options)
    }

    /// Whether an expiry may be changed; a key without one expires after all others.
    fn allow(self, before: Option<i64>, at: i64) -> bool {
        let Self { nx, xx, gt, lt } = self;
        !(nx && before.is_some()
            || xx && before.is_none()
            || gt && before.is_none_or(|before| at <= before)
            || lt && before.is_some_and(|before| at >= before))
    }
}
