//! The commands that write presence to Redis, and that read it, with their replies.

use std::sync::LazyLock;

use bytes::Bytes;
use ssegate_hub::ChannelName;
use ssegate_resp::Value;

use crate::source::presence::{
    ChangeOutcome, ChannelChange, ChannelPresence, LeaseChange, PresentMember, shown_name,
};
use crate::source::redis::error::SourceError;
use crate::source::redis::keyed::KeyedConnection;
use crate::source::redis::script::{RedisScript, is_unknown};
use crate::webhook::WebhookEvent;

/// See the first lines of the script.
static UPDATE: LazyLock<RedisScript> =
    LazyLock::new(|| RedisScript::new(include_str!("update.lua")));

/// The lease: how long a gateway is taken to live after its last command.
pub(super) const LEASE_MILLIS: u64 = 18_000;

/// How long a channel is kept after the last command about it.
const KEPT_MILLIS: u64 = 60_000;

/// The same for a channel with a webhook for its vacation: the next gateway may come late.
const KEPT_UNTIL_SENT_MILLIS: u64 = 86_400_000;

/// Channels in one script, at most.
const MAX_CHANNELS: usize = 50;

/// The gateway that writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PresenceWriter<'a> {
    /// This gateway, in letters and digits.
    pub(super) gateway: &'a str,
    /// Whether gateways with an expired lease have ended.
    pub(super) may_end: bool,
}

/// The result of one change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UpdateReply {
    pub(super) outcome: ChangeOutcome,
    /// Whether the change has occupied or vacated the channel.
    pub(super) event: Option<WebhookEvent>,
    /// The channel was only checked for expired leases, and has members.
    pub(super) is_kept: bool,
    /// The time of the change, in milliseconds since 1970 by the clock of Redis.
    pub(super) time_ms: u64,
    /// Why the presence event could not be published.
    pub(super) fault: Option<String>,
}

/// The key of a channel. The braces keep all keys of one channel at one node of a Cluster.
pub(super) fn key(name: &ChannelName) -> String {
    format!("ssegate:presence:{{{name}}}")
}

/// Writes these changes, and returns the result of each, in any order; `None`: in a Cluster it may not have been
/// written.
///
/// # Errors
/// Redis refuses it, or the connection is lost.
pub(super) async fn update<'a>(
    connection: &mut KeyedConnection,
    teller: PresenceWriter<'_>,
    changes: &'a [ChannelChange],
) -> Result<Vec<(&'a ChannelChange, Option<UpdateReply>)>, SourceError> {
    let batches = batches(connection, changes);
    // A script makes many changes, so that sending its text costs little, and permission for EVAL is enough.
    let has_text = connection.is_one_server();
    for batch in &batches {
        connection.queue(&key(&batch[0].name), update_words(teller, batch, has_text));
    }
    let mut replies = connection.replies().await?;
    let is_unknown = |reply: &Option<Value>| matches!(reply, Some(Value::Error(message)) if is_unknown(&String::from_utf8_lossy(message)));
    let again: Vec<usize> = (0..replies.len()).filter(|at| is_unknown(&replies[*at])).collect();
    for &at in &again {
        let batch = &batches[at];
        connection.queue(&key(&batch[0].name), update_words(teller, batch, true));
    }
    for (at, reply) in again.into_iter().zip(connection.replies().await?) {
        replies[at] = reply;
    }
    let mut updated = Vec::with_capacity(changes.len());
    for (batch, reply) in batches.into_iter().zip(replies) {
        match reply {
            None => updated.extend(batch.into_iter().map(|change| (change, None))),
            Some(reply) => {
                let replies = update_replies(&reply, batch.len())?.into_iter().map(Some);
                updated.extend(batch.into_iter().zip(replies));
            }
        }
    }
    Ok(updated)
}

/// The changes that one script makes: those whose keys are in one slot.
fn batches<'a>(
    connection: &KeyedConnection,
    changes: &'a [ChannelChange],
) -> Vec<Vec<&'a ChannelChange>> {
    let place = |change: &'a ChannelChange| (connection.place(&key(&change.name)), change);
    let mut placed: Vec<_> = changes.iter().map(place).collect();
    placed.sort_by_key(|(place, _)| *place);
    let together = placed.chunk_by(|(one, _), (other, _)| one == other);
    let batches = together.flat_map(|together| together.chunks(MAX_CHANNELS));
    batches.map(|batch| batch.iter().map(|(_, change)| *change).collect()).collect()
}

/// The script for these changes. It has one reply.
fn update_words(
    teller: PresenceWriter<'_>,
    changes: &[&ChannelChange],
    has_text: bool,
) -> Vec<Bytes> {
    let mut words: Vec<_> = changes.iter().map(|change| text(key(&change.name))).collect();
    let gateway = Bytes::copy_from_slice(teller.gateway.as_bytes());
    words.extend([gateway, text(LEASE_MILLIS), flag(teller.may_end)]);
    for change in changes {
        let topic = change.name.of_presence().filter(|_| change.settings.has_events);
        let kept = match change.settings.on_vacated {
            Some(_) => KEPT_UNTIL_SENT_MILLIS,
            None => KEPT_MILLIS,
        };
        let shown = shown_name(change.name.as_str(), change.prefix_bytes);
        words.extend([
            flag(change.is_beginning),
            word(match change.lease {
                LeaseChange::Renewed => "1",
                LeaseChange::Ended => "0",
                LeaseChange::Kept => "k",
            }),
            text(change.settings.max_members),
            text(kept),
            topic.map_or_else(Bytes::new, text),
            serde_json::to_vec(shown).expect("text is always JSON").into(),
            text(change.members.len()),
        ]);
        for member in &change.members {
            words.extend([
                Bytes::copy_from_slice(member.id.as_bytes()),
                member.streams.map_or_else(|| word("-"), text),
                text(member.since.elapsed().as_millis()),
            ]);
        }
    }
    UPDATE.call(has_text, changes.len(), words.into_iter())
}

/// Parses the reply of the script to `count` changes.
///
/// # Errors
/// The script was refused, or the reply is malformed.
fn update_replies(reply: &Value, count: usize) -> Result<Vec<UpdateReply>, SourceError> {
    if let Value::Error(message) = reply {
        let message = String::from_utf8_lossy(message).into();
        return Err(SourceError::Refused(message).for_command("to store presence (EVAL)"));
    }
    let replies: Option<Vec<_>> = array(reply).iter().map(update_reply).collect();
    let replies = replies.filter(|replies| replies.len() == count);
    replies.ok_or_else(|| SourceError::Unexpected(format!("{reply:?}")))
}

fn update_reply(reply: &Value) -> Option<UpdateReply> {
    let mut parts = array(reply).iter().map(|part| str::from_utf8(part.as_bytes()?).ok());
    let (state, change, fault) = (parts.next()??, parts.next()??, parts.next()??);
    let time_ms = parts.next()??.parse().ok()?;
    let event = match change {
        "" | "k" => None,
        "o" => Some(WebhookEvent::Occupied),
        "v" => Some(WebhookEvent::Vacated),
        _ => return None,
    };
    let outcome = match state {
        "L" => ChangeOutcome::Lost,
        "K" => {
            let places = parts.map(|place| place?.parse().ok());
            ChangeOutcome::Known(places.collect::<Option<_>>()?)
        }
        _ => return None,
    };
    let fault = (!fault.is_empty()).then(|| fault.to_owned());
    Some(UpdateReply { outcome, event, is_kept: change == "k", time_ms, fault })
}

/// The number of replies to [`queue_count`] and [`queue_members`].
pub(super) const REPLIES: [usize; 2] = [3, 2];

/// Queues the commands that read the number of members of a channel.
pub(super) fn queue_count(connection: &mut KeyedConnection, name: &ChannelName) {
    let key = key(name);
    // The leases end by the clock of the server that has the key.
    connection.queue_text(&key, &["TIME"]);
    connection.queue_text(&key, &["HGET", &key, "g"]);
    connection.queue_text(&key, &["HLEN", &key]);
}

/// Queues the commands that read the members of a channel.
pub(super) fn queue_members(connection: &mut KeyedConnection, name: &ChannelName) {
    let key = key(name);
    connection.queue_text(&key, &["TIME"]);
    connection.queue_text(&key, &["HGETALL", &key]);
}

/// Parses the number of members from the replies to [`queue_count`]. `None`: the lease of a gateway has expired, so
/// that the members have to be read to count those that are left.
///
/// # Errors
/// The commands were refused, or the replies belong to other commands.
pub(super) fn count(replies: &[Value]) -> Result<Option<usize>, SourceError> {
    let [time, leases, length] = replies else { return Err(no_members()) };
    refusal(replies, "to say how many listen (TIME, HGET, HLEN)")?;
    let now = millis(time).ok_or_else(no_members)?;
    let leases = match leases {
        Value::Null => return Ok(Some(0)),
        leases => lossy(leases).ok_or_else(no_members)?,
    };
    let Value::Integer(length) = length else { return Err(no_members()) };
    let members = usize::try_from(*length).unwrap_or_default().saturating_sub(1);
    Ok((ends(&leases).all(|(_, end)| end > now)).then_some(members))
}

/// Parses the members from the replies to [`queue_members`].
///
/// # Errors
/// The commands were refused, or the replies belong to other commands.
pub(super) fn members(replies: &[Value]) -> Result<ChannelPresence, SourceError> {
    let [time, hash] = replies else { return Err(no_members()) };
    refusal(replies, "to read presence (TIME, HGETALL)")?;
    let now = millis(time).ok_or_else(no_members)?;
    let fields = fields(hash).ok_or_else(no_members)?;
    let leases = fields.iter().find(|(field, _)| field == "g").map_or("", |(_, leases)| leases);
    let live = ends(leases).filter(|(_, end)| *end > now);
    let live: Vec<&str> = live.map(|(gateway, _)| gateway).collect();
    let members =
        fields.iter().filter_map(|(field, value)| Some((field.strip_prefix('m')?, value)));
    let mut members: Vec<PresentMember> =
        members.filter_map(|(id, value)| member(id, value, &live)).collect();
    members.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
    Ok(ChannelPresence { count: members.len(), members })
}

fn no_members() -> SourceError {
    SourceError::Unexpected("no hash of members".to_owned())
}

fn refusal(replies: &[Value], what: &str) -> Result<(), SourceError> {
    let errors = replies.iter().filter_map(|reply| match reply {
        Value::Error(message) => Some(String::from_utf8_lossy(message).into_owned()),
        _ => None,
    });
    errors.take(1).try_for_each(|error| Err(SourceError::Refused(error).for_command(what)))
}

/// Parses the leases of the gateways: `gateway=end …`.
fn ends(leases: &str) -> impl Iterator<Item = (&str, u64)> {
    let leases = leases.split(' ').filter_map(|lease| lease.split_once('='));
    leases.filter_map(|(gateway, end)| Some((gateway, end.parse().ok()?)))
}

fn lossy(value: &Value) -> Option<String> {
    Some(String::from_utf8_lossy(value.as_bytes()?).into_owned())
}

/// Parses a member: `since gateway:streams …`; `None` if none of its gateways lives.
fn member(id: &str, value: &str, live: &[&str]) -> Option<PresentMember> {
    let mut parts = value.split(' ');
    let since = parts.next()?.parse().ok()?;
    let streams = parts.filter_map(|part| part.split_once(':'));
    let streams = streams.filter(|(gateway, _)| live.contains(gateway));
    let streams: Vec<u64> = streams.filter_map(|(_, streams)| streams.parse().ok()).collect();
    (!streams.is_empty()).then(|| PresentMember {
        id: id.to_owned(),
        since,
        connections: streams.iter().fold(0, |sum, streams| sum.saturating_add(*streams)),
    })
}

/// The milliseconds of `TIME`: seconds and microseconds.
pub(super) fn millis(time: &Value) -> Option<u64> {
    let [seconds, micros] = array(time) else { return None };
    let number = |value: &Value| str::from_utf8(value.as_bytes()?).ok()?.parse::<u64>().ok();
    number(seconds)?.checked_mul(1000)?.checked_add(number(micros)? / 1000)
}

/// The fields of a hash: a map of RESP3, or their list in RESP2.
fn fields(hash: &Value) -> Option<Vec<(String, String)>> {
    match hash {
        Value::Map(pairs) => {
            pairs.iter().map(|(field, value)| Some((lossy(field)?, lossy(value)?))).collect()
        }
        Value::Array(parts) => {
            let pairs = parts.chunks_exact(2);
            pairs.map(|pair| Some((lossy(&pair[0])?, lossy(&pair[1])?))).collect()
        }
        Value::Null => Some(Vec::new()),
        _ => None,
    }
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(parts) => parts,
        _ => &[],
    }
}

fn word(word: &'static str) -> Bytes {
    Bytes::from_static(word.as_bytes())
}

fn text(value: impl ToString) -> Bytes {
    value.to_string().into()
}

fn flag(is_set: bool) -> Bytes {
    word(if is_set { "1" } else { "0" })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_hub::ChannelName;
    use ssegate_resp::Value;

    use super::{UpdateReply, count, key, members, update_replies};
    use crate::source::presence::ChangeOutcome;
    use crate::webhook::WebhookEvent;

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn bulks(texts: &[&'static str]) -> Value {
        Value::Array(texts.iter().map(|text| bulk(text)).collect())
    }

    #[test]
    fn what_the_script_returns_is_read_or_ends_the_connection() {
        let replies = Value::Array(vec![
            bulks(&["K", "o", "", "1000", "0", "7"]),
            bulks(&["L", "", "", "1000"]),
            bulks(&["K", "k", "NOPERM no", "1000"]),
        ]);
        let known = |places: &[usize]| ChangeOutcome::Known(places.to_vec());
        let of = |is_kept| UpdateReply {
            outcome: known(&[]),
            event: None,
            is_kept,
            time_ms: 1000,
            fault: None,
        };
        let fault = Some("NOPERM no".to_owned());
        let event = Some(WebhookEvent::Occupied);
        assert_eq!(
            update_replies(&replies, 3).expect("replies"),
            [
                UpdateReply { outcome: known(&[0, 7]), event, ..of(false) },
                UpdateReply { outcome: ChangeOutcome::Lost, ..of(false) },
                UpdateReply { outcome: known(&[]), fault, ..of(true) },
            ]
        );
        for (reply, count) in [
            (Value::Array(Vec::new()), 1),
            (Value::Array(vec![bulks(&["K", "o"])]), 1),
            (Value::Array(vec![bulks(&["X", "", "", "1"])]), 1),
            (Value::Array(vec![bulks(&["K", "x", "", "1"])]), 1),
            (Value::Array(vec![bulks(&["K", "", "", "1", "x"])]), 1),
            (Value::Array(vec![Value::Null]), 1),
            (Value::Integer(1), 0),
            (Value::Error(Bytes::from_static(b"NOPERM")), 1),
        ] {
            let is_wrong = update_replies(&reply, count).is_err();
            assert!(is_wrong || (reply == Value::Integer(1) && count == 0), "{reply:?}");
        }
    }

    #[test]
    fn who_listens_is_who_a_live_gateway_has() {
        let time = bulks(&["2", "500000"]);
        let hash = bulks(&[
            "g",
            "aa=2501 bb=2500",
            "mx",
            "100 aa:1 bb:2",
            "my",
            "50 bb:1",
            "mz",
            "70 aa:2",
            "mw",
            "wrong",
        ]);
        let found = members(&[time.clone(), hash.clone()]).expect("a hash");
        let shown: Vec<_> =
            found.members.iter().map(|it| (&*it.id, it.since, it.connections)).collect();
        assert_eq!((found.count, shown), (2, vec![("z", 70, 2), ("x", 100, 1)]));
        let pairs = vec![(bulk("g"), bulk("aa=2501")), (bulk("m"), bulk("1 aa:1"))];
        let found = members(&[time.clone(), Value::Map(pairs)]).expect("a map");
        assert_eq!(found.members[0].id, "");
        assert_eq!(members(&[time.clone(), Value::Null]).expect("nothing").count, 0);
        assert!(members(&[time.clone(), Value::Error(Bytes::from_static(b"NOPERM"))]).is_err());
        assert!(members(&[Value::Null, hash]).is_err());
        let length = Value::Integer(4);
        for (leases, expected) in [
            (bulk("aa=2501"), Some(3)),
            (bulk("aa=2501 bb=2500"), None),
            (bulk(""), Some(3)),
            (Value::Null, Some(0)),
        ] {
            let replies = [time.clone(), leases, length.clone()];
            assert_eq!(count(&replies).expect("replies"), expected, "{replies:?}");
        }
    }

    #[test]
    fn a_channel_has_a_slot_of_its_own() {
        let name = ChannelName::new("user:{1}").expect("a name");
        assert_eq!(key(&name), "ssegate:presence:{user:{1}}");
    }
}
