//! The scripts of recorded channels, what they are called with, and what they return.

use std::sync::LazyLock;

use bytes::Bytes;
use ssegate_hub::EntryId;
use ssegate_record::{AppendAnswer, AppendRequest, LogItem};
use ssegate_resp::Value;

use super::channel::{RecordedPayload, entry_id, record_id};
use crate::source::recorded::RecordedSettings;
use crate::source::redis::script::RedisScript;

pub(super) static APPEND: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("append.lua")));
pub(super) static READ: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("read.lua")));
pub(super) static NEWEST: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("newest.lua")));
pub(super) static MARK: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("mark.lua")));

/// The arguments of the script that appends.
pub(super) fn append_arguments(
    settings: &RecordedSettings,
    request: &AppendRequest<RecordedPayload>,
) -> Vec<Bytes> {
    let may_gap = if request.may_gap { "1" } else { "0" };
    let mut arguments: Vec<Bytes> = vec![
        entry_id(request.since).to_string().into(),
        Bytes::from_static(may_gap.as_bytes()),
        settings.count.to_string().into(),
        settings.age.as_millis().to_string().into(),
    ];
    for (id, item) in &request.items {
        let (kind, payload) = match item {
            LogItem::Message(RecordedPayload::Whole(payload)) => ("m", payload.clone()),
            LogItem::Message(RecordedPayload::TooLarge) => ("l", Bytes::new()),
            LogItem::Seal => ("s", Bytes::new()),
        };
        let id = entry_id(*id).to_string();
        arguments.extend([id.into(), Bytes::from_static(kind.as_bytes()), payload]);
    }
    arguments
}

/// What stands behind the mark that a call with these arguments publishes.
pub(super) fn mark_text(arguments: &[Bytes]) -> &str {
    arguments.get(2).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
}

/// Parses the reply of the script that publishes a mark: the clock of Redis, in milliseconds since 1970.
pub(super) fn redis_time(reply: &Value) -> Option<u64> {
    let Value::Array(parts) = reply else { return None };
    let [_, Value::Integer(time)] = &parts[..] else { return None };
    u64::try_from(*time).ok()
}

/// Parses the reply of the script that appends: the answer, how many entries were added, and of them gaps.
pub(super) fn append_answer(reply: &Value) -> Option<(AppendAnswer, u64, u64)> {
    let Value::Array(parts) = reply else { return None };
    let [top, Value::Integer(is_missing), Value::Integer(added), Value::Integer(gaps)] = &parts[..]
    else {
        return None;
    };
    let top = record_id(EntryId::parse(top.as_bytes()?)?);
    let answer = AppendAnswer { top, is_missing: *is_missing == 1 };
    Some((answer, u64::try_from(*added).ok()?, u64::try_from(*gaps).ok()?))
}
