//! The arguments of the scripts of kept streams, and their replies.

use std::time::Duration;

use bytes::Bytes;
use ssegate_resp::Value;

/// How long a gateway is taken to pump a stream after its last write.
const LEASE: Duration = Duration::from_secs(8);
/// How long the streams of a gateway that has died are kept at least, so that clients learn that they
/// are lost.
const KEPT_LEAST: Duration = Duration::from_secs(60);
/// How long another gateway counts as a follower of a stream after it has read it.
const FOLLOW: Duration = Duration::from_secs(5);
/// The streams of one name, at most: the oldest are removed.
const MAX_INDEXED: usize = 200;

/// A stream that this gateway pumps.
#[derive(Clone, Copy, Debug)]
pub struct PumpRecord<'a> {
    /// The id of the stream.
    pub id: &'a str,
    /// The token of this pump.
    pub token: &'a str,
    /// The epoch of the stream.
    pub epoch: &'a str,
    /// How long the stream is kept after its end.
    pub after_end: Duration,
}

/// A stream that begins.
#[derive(Clone, Debug)]
pub struct BeginRecord<'a> {
    /// The stream.
    pub of: PumpRecord<'a>,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// The description of the stream.
    pub about: Bytes,
    /// The hash of the request's body, if it is known.
    pub digest: String,
}

/// What is appended to a stream; without an entry it only renews the lease.
#[derive(Clone, Debug)]
pub struct AppendRecord<'a> {
    /// The stream.
    pub of: PumpRecord<'a>,
    /// The number of the entry, or of the last one.
    pub seq: u64,
    /// The oldest entry that is kept.
    pub keep_from: u64,
    /// `running`, or how it has ended.
    pub state: &'static str,
    /// The hash of the request's body, once it is known.
    pub digest: String,
    /// Whether its events have numbers as ids, once that is known.
    pub is_numbered: Option<bool>,
    /// The number of the last event.
    pub last: u64,
    /// Where the entry is in the stream, and its bytes.
    pub entry: Option<(String, Bytes)>,
}

/// The outcome of beginning a stream, or of appending to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It was written.
    Done {
        /// Why the stream is to stop; `None`: it is not.
        stop: Option<String>,
        /// How many gateways follow it.
        followers: u64,
        /// The error if the followers could not be notified.
        fault: Option<String>,
    },
    /// The stream belongs to another pump, or another gateway has ended it.
    Fenced,
    /// Redis does not have what was appended before.
    Gone,
}

/// A read of a stream.
#[derive(Clone, Debug)]
pub struct ReadRecord<'a> {
    /// The id of the stream.
    pub id: &'a str,
    /// The epoch that the reader knows; empty: none.
    pub epoch: &'a str,
    /// The last entry that the reader has.
    pub after: u64,
    /// How many entries are read at most.
    pub count: usize,
    /// Whether this gateway follows the stream: it has readers here.
    pub follows: bool,
    /// Whether the reply has to have the description.
    pub wants_about: bool,
}

/// What Redis has of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// `running`, or how it has ended.
    pub state: String,
    /// The epoch of the stream.
    pub epoch: String,
    /// The number of the last event.
    pub last: u64,
    /// The hash of the request's body, once it is known.
    pub digest: String,
    /// Whether its events have numbers as ids, once that is known.
    pub is_numbered: Option<bool>,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// The gateway whose pump it is.
    pub gateway: String,
    /// The description of the stream, if it was asked for.
    pub about: Bytes,
    /// When the lease of its pump ends, by the clock of Redis. It changes with each write of the pump.
    pub lease: u64,
    /// Its entries, in order.
    pub parts: Vec<StoredPart>,
}

/// An entry of the log of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Its number.
    pub seq: u64,
    /// Where it is in the stream.
    pub at: Bytes,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A step on the index of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexStep {
    /// Only reads the index.
    List,
    /// The stream takes the name; `parallel`, `replace` or `reject` decides what happens to others.
    Claim(&'static str, Duration),
    /// The stream keeps the name for this long.
    Keep(Duration),
    /// The stream has ended, and stays in the index for this long.
    End(Duration),
    /// The stream never began.
    Remove,
}

/// A stream in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The id of the stream.
    pub id: String,
    /// Whether it runs, or waits for the backend.
    pub runs: bool,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// Its gateway.
    pub gateway: String,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexOutcome {
    /// The others, in no order.
    Others(Vec<IndexEntry>),
    /// Another one runs, and the step asked to be rejected then.
    Refused,
}

/// The keys of a stream: its hash and its log. The braces keep them at one node of a Cluster.
pub(super) fn stream_keys(id: &str) -> [String; 2] {
    [format!("ssegate:kept:{{{id}}}"), format!("ssegate:kept:{{{id}}}:log")]
}

/// The key of an index.
pub(super) fn index_key(tag: &str) -> String {
    format!("ssegate:kept:{{{tag}}}:index")
}

impl BeginRecord<'_> {
    pub(super) fn arguments(&self, gateway: &str) -> Vec<Bytes> {
        vec![
            text(self.of.token),
            text(self.of.epoch),
            text(gateway),
            text(self.began),
            self.about.clone(),
            millis(LEASE),
            millis(kept(self.of.after_end)),
            text(&self.digest),
        ]
    }
}

impl AppendRecord<'_> {
    pub(super) fn arguments(&self) -> Vec<Bytes> {
        let kept = match self.state {
            "running" => kept(self.of.after_end),
            _ => self.of.after_end.max(Duration::from_millis(1)),
        };
        let is_numbered = self.is_numbered.map_or("", |is| if is { "1" } else { "0" });
        let mut arguments = vec![
            text(self.of.id),
            text(self.of.token),
            text(self.of.epoch),
            text(self.seq),
            text(self.keep_from),
            millis(LEASE),
            millis(kept),
            text(self.state),
            text(&self.digest),
            text(is_numbered),
            text(self.last),
        ];
        if let Some((at, bytes)) = &self.entry {
            arguments.extend([text(at), bytes.clone()]);
        }
        arguments
    }
}

impl AppendOutcome {
    pub(super) fn parse(reply: &Value) -> Option<Self> {
        let parts = array(reply)?;
        let word = |at: usize| lossy(parts.get(at)?);
        Some(match &*word(0)? {
            "ok" => Self::Done {
                stop: word(1).filter(|stop| !stop.is_empty()),
                followers: word(2)?.parse().ok()?,
                fault: word(3).filter(|fault| !fault.is_empty()),
            },
            "fenced" => Self::Fenced,
            "gone" => Self::Gone,
            _ => return None,
        })
    }
}

impl ReadRecord<'_> {
    pub(super) fn arguments(&self, gateway: &str) -> Vec<Bytes> {
        let follow = if self.follows { FOLLOW } else { Duration::ZERO };
        vec![
            text(self.id),
            text(self.epoch),
            text(self.after),
            text(self.count),
            text(gateway),
            millis(follow),
            text(u8::from(self.wants_about)),
        ]
    }
}

impl StoredRecord {
    /// Parses the reply; the inner `None`: there is no stream.
    #[expect(
        clippy::option_option,
        reason = "no reply of the script, and no stream, are two things"
    )]
    pub(super) fn parse(reply: &Value) -> Option<Option<Self>> {
        let parts = array(reply)?;
        if parts.is_empty() {
            return Some(None);
        }
        let [state, epoch, last, digest, numbered, began, gateway, about, lease, entries] = parts
        else {
            return None;
        };
        let stored = Self {
            state: lossy(state)?,
            epoch: lossy(epoch)?,
            last: number(last)?,
            digest: lossy(digest)?,
            is_numbered: match &*lossy(numbered)? {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            },
            began: number(began)?,
            gateway: lossy(gateway)?,
            about: copied(about)?,
            lease: number(lease)?,
            parts: array(entries)?.iter().map(StoredPart::parse).collect::<Option<_>>()?,
        };
        Some(Some(stored))
    }
}

impl StoredPart {
    fn parse(entry: &Value) -> Option<Self> {
        let [id, fields] = array(entry)? else { return None };
        let [_, at, _, bytes] = array(fields)? else { return None };
        let id = lossy(id)?;
        let seq = id.split('-').next()?.parse().ok()?;
        Some(Self { seq, at: copied(at)?, bytes: copied(bytes)? })
    }
}

impl IndexStep {
    pub(super) fn arguments(self, (id, began): (&str, u64), gateway: &str) -> Vec<Bytes> {
        let (what, time, mode) = match self {
            Self::List => ("list", Duration::ZERO, "parallel"),
            Self::Claim(mode, time) => ("claim", time, mode),
            Self::Keep(time) => ("keep", time, "parallel"),
            Self::End(time) => ("end", time, "parallel"),
            Self::Remove => ("remove", Duration::ZERO, "parallel"),
        };
        let most = text(MAX_INDEXED);
        vec![text(what), text(id), text(began), text(gateway), millis(time), text(mode), most]
    }
}

impl IndexOutcome {
    pub(super) fn parse(reply: &Value) -> Option<Self> {
        let (first, others) = array(reply)?.split_first()?;
        match &*lossy(first)? {
            "refused" => return Some(Self::Refused),
            "ok" => {}
            _ => return None,
        }
        let entry = |parts: &[Value]| {
            let [id, kind, began, gateway] = parts else { return None };
            let runs = lossy(kind)? == "r";
            Some(IndexEntry {
                id: lossy(id)?,
                runs,
                began: number(began)?,
                gateway: lossy(gateway)?,
            })
        };
        others.chunks(4).map(entry).collect::<Option<_>>().map(Self::Others)
    }
}

/// How long a stream of this gateway is kept after the last write of its pump.
fn kept(after_end: Duration) -> Duration {
    LEASE + after_end.max(KEPT_LEAST)
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(parts) => Some(parts),
        _ => None,
    }
}

fn lossy(value: &Value) -> Option<String> {
    Some(String::from_utf8_lossy(value.as_bytes()?).into_owned())
}

/// Copies the bytes out of the read buffer.
fn copied(value: &Value) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(value.as_bytes()?))
}

fn number(value: &Value) -> Option<u64> {
    lossy(value)?.parse().ok()
}

fn text(value: impl ToString) -> Bytes {
    value.to_string().into()
}

fn millis(time: Duration) -> Bytes {
    text(time.as_millis())
}

#[cfg(test)]
mod tests {
    use ssegate_resp::Value;

    use super::{AppendOutcome, IndexEntry, IndexOutcome, StoredPart, StoredRecord, stream_keys};

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(text.into())
    }

    fn bulks(texts: &[&'static str]) -> Value {
        Value::Array(texts.iter().map(|text| bulk(text)).collect())
    }

    #[test]
    fn what_an_append_has_become_is_read() {
        let done = |stop: Option<&str>, followers, fault: Option<&str>| {
            let (stop, fault) = (stop.map(str::to_owned), fault.map(str::to_owned));
            Some(AppendOutcome::Done { stop, followers, fault })
        };
        for (reply, expected) in [
            (bulks(&["ok", "", "0", ""]), done(None, 0, None)),
            (bulks(&["ok", "deleted", "2", "NOPERM"]), done(Some("deleted"), 2, Some("NOPERM"))),
            (bulks(&["fenced"]), Some(AppendOutcome::Fenced)),
            (bulks(&["gone"]), Some(AppendOutcome::Gone)),
            (bulks(&["ok", "", "many", ""]), None),
            (bulks(&["other"]), None),
            (bulks(&[]), None),
            (Value::Null, None),
        ] {
            assert_eq!(AppendOutcome::parse(&reply), expected, "{reply:?}");
        }
    }

    #[test]
    fn what_redis_has_of_a_stream_is_read_or_is_nothing() {
        assert_eq!(StoredRecord::parse(&bulks(&[])), Some(None));
        let entry = Value::Array(vec![bulk("7-0"), bulks(&["at", "0 0", "bytes", "data: 1\n\n"])]);
        let whole = |entry: Value| {
            let mut parts = vec!["running", "e", "3", "", "1", "1000", "g", "{}", "9000"]
                .into_iter()
                .map(bulk)
                .collect::<Vec<_>>();
            parts.push(Value::Array(vec![entry]));
            StoredRecord::parse(&Value::Array(parts))
        };
        let stored = whole(entry).expect("a reply").expect("a stream");
        let part = StoredPart { seq: 7, at: "0 0".into(), bytes: "data: 1\n\n".into() };
        assert_eq!((stored.last, stored.is_numbered, stored.parts), (3, Some(true), vec![part]));
        assert_eq!(whole(bulks(&["7-0"])), None);
        assert_eq!(StoredRecord::parse(&bulks(&["running"])), None);
    }

    #[test]
    fn the_streams_of_a_name_are_read() {
        let entry = IndexEntry { id: "a".into(), runs: true, began: 5, gateway: "g".into() };
        let others = IndexOutcome::Others(vec![entry]);
        assert_eq!(IndexOutcome::parse(&bulks(&["ok", "a", "r", "5", "g"])), Some(others));
        assert_eq!(IndexOutcome::parse(&bulks(&["ok"])), Some(IndexOutcome::Others(Vec::new())));
        assert_eq!(IndexOutcome::parse(&bulks(&["refused"])), Some(IndexOutcome::Refused));
        assert_eq!(IndexOutcome::parse(&bulks(&["ok", "a", "r"])), None);
    }

    #[test]
    fn hash_and_log_of_a_stream_are_in_one_slot() {
        assert_eq!(stream_keys("a"), ["ssegate:kept:{a}", "ssegate:kept:{a}:log"]);
    }
}
