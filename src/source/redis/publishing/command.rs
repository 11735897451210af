//! The commands of publications, and what their replies mean.

use bytes::Bytes;
use ssegate_resp::Value;

use crate::source::publishing::{
    IdempotencyKey, JobResult, NotPublished, Publication, PublicationKind, PublicationOutcome,
    Receipt,
};
use crate::source::redis::error::SourceError;

/// See the first lines of the script.
const ONCE: &str = include_str!("once.lua");

/// One script for all publications, which makes them unless the key has a result already. It has one reply.
pub(super) fn once<'a>(
    key: &IdempotencyKey,
    publications: impl Iterator<Item = &'a Publication> + Clone,
) -> Vec<Bytes> {
    let logs = publications.clone().filter(|one| one.is_entry());
    let keys: Vec<&str> = [key.name.as_str()]
        .into_iter()
        .chain(logs.map(|publication| publication.channel.as_str()))
        .collect();
    let mut command = vec![word("EVAL"), word(ONCE), number(keys.len())];
    command.extend(keys.into_iter().map(|key| Bytes::copy_from_slice(key.as_bytes())));
    let fingerprint = Bytes::copy_from_slice(key.fingerprint.as_bytes());
    command.extend([fingerprint, number(IdempotencyKey::KEPT_FOR.as_secs())]);
    for publication in publications {
        let words = words(publication);
        command.push(number(words.len()));
        command.extend(words);
    }
    command
}

fn word(word: &'static str) -> Bytes {
    Bytes::from_static(word.as_bytes())
}

fn number(number: impl ToString) -> Bytes {
    number.to_string().into()
}

/// The command of one publication. It has one reply.
pub(super) fn words(Publication { channel, kind }: &Publication) -> Vec<Bytes> {
    let name = Bytes::copy_from_slice(channel.as_str().as_bytes());
    match kind {
        PublicationKind::Message(payload) => vec![word("PUBLISH"), name, payload.clone()],
        PublicationKind::Sharded(payload) => vec![word("SPUBLISH"), name, payload.clone()],
        PublicationKind::Entry { fields, max_entries } => {
            let mut words = vec![word("XADD"), name];
            if let Some(most) = max_entries {
                words.extend([word("MAXLEN"), word("~"), number(most)]);
            }
            words.push(word("*"));
            for (field, value) in fields {
                words.extend([word(field), value.clone()]);
            }
            words
        }
    }
}

/// Returns the receipt of one publication, from its reply.
///
/// # Errors
/// The reply does not fit the command.
pub(super) fn receipt(reply: &Value) -> Result<Receipt, SourceError> {
    let unexpected = || SourceError::Unexpected(format!("{reply:?}"));
    match reply {
        Value::Integer(receivers) => {
            u64::try_from(*receivers).map(Receipt::Receivers).map_err(|_negative| unexpected())
        }
        Value::Simple(id) | Value::Bulk(id) => Ok(Receipt::Entry(lossy(id))),
        Value::Error(message) => Ok(Receipt::Refused(lossy(message))),
        _ => Err(unexpected()),
    }
}

/// Returns the result of the script for `count` publications.
///
/// # Errors
/// The reply does not fit the script.
pub(super) fn outcome(reply: &Value, count: usize) -> Result<JobResult, SourceError> {
    let unexpected = || SourceError::Unexpected(format!("{reply:?}"));
    let text = match reply {
        Value::Null => return Ok(Err(NotPublished::KeyReused)),
        // The commands that can fail come first in the script: nothing is published.
        Value::Error(message) => {
            let receipts = vec![Receipt::Refused(lossy(message)); count];
            return Ok(Ok(PublicationOutcome { receipts, is_repeated: false }));
        }
        other => lossy(other.as_bytes().ok_or_else(unexpected)?),
    };
    let (first, lines) = text.split_at_checked(1).ok_or_else(unexpected)?;
    let receipts: Option<Vec<_>> = lines.split('\n').map(line).collect();
    let receipts = receipts.filter(|receipts| receipts.len() == count).ok_or_else(unexpected)?;
    Ok(Ok(PublicationOutcome { receipts, is_repeated: first == "K" }))
}

fn line(line: &str) -> Option<Receipt> {
    let (kind, value) = line.split_at_checked(1)?;
    match kind {
        ":" => value.parse().ok().map(Receipt::Receivers),
        "+" => Some(Receipt::Entry(value.to_owned())),
        "-" => Some(Receipt::Refused(value.to_owned())),
        _ => None,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_hub::ChannelName;
    use ssegate_resp::Value;

    use super::{outcome, receipt, words};
    use crate::source::publishing::{NotPublished, Publication, PublicationKind, Receipt};

    #[test]
    fn a_publication_is_one_command() {
        let channel = ChannelName::new("news").expect("a name");
        let data = Bytes::from_static(b"a\0b");
        let fields = vec![("data", data.clone()), ("event", Bytes::from_static(b"ping"))];
        let entry = |max_entries| PublicationKind::Entry { fields: fields.clone(), max_entries };
        for (kind, expected) in [
            (PublicationKind::Sharded(data.clone()), "SPUBLISH news a\0b"),
            (PublicationKind::Message(data), "PUBLISH news a\0b"),
            (entry(None), "XADD news * data a\0b event ping"),
            (entry(Some(500)), "XADD news MAXLEN ~ 500 * data a\0b event ping"),
        ] {
            let words = words(&Publication { channel: channel.clone(), kind });
            assert_eq!(String::from_utf8_lossy(&words.join(&b' ')), expected);
        }
    }

    #[test]
    fn replies_are_receipts_and_what_is_none_ends_the_connection() {
        let bulk = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
        assert_eq!(receipt(&Value::Integer(2)).ok(), Some(Receipt::Receivers(2)));
        assert_eq!(receipt(&bulk("1-0")).ok(), Some(Receipt::Entry("1-0".into())));
        assert!(receipt(&Value::Integer(-1)).is_err());
        assert!(receipt(&Value::Null).is_err());
        let all = outcome(&bulk("K:3\n+1-0\n-ERR x"), 3).expect("a result").expect("an outcome");
        assert!(all.is_repeated);
        assert_eq!(
            all.receipts,
            [Receipt::Receivers(3), Receipt::Entry("1-0".into()), Receipt::Refused("ERR x".into())]
        );
        assert_eq!(outcome(&Value::Null, 1).expect("a result"), Err(NotPublished::KeyReused));
        for (reply, count) in [("K:3", 2), ("", 1), ("N", 1), ("N?", 1), ("N:x", 1)] {
            assert!(outcome(&bulk(reply), count).is_err(), "{reply}");
        }
        let refused = outcome(&Value::Error(Bytes::from_static(b"OOM")), 2).expect("a result");
        assert_eq!(refused.expect("an outcome").receipts, vec![Receipt::Refused("OOM".into()); 2]);
    }
}
