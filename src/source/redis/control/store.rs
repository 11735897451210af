//! The revocations that Redis keeps, for gateways that did not receive them.
//!
//! Two sorted sets. `CHANNEL:list` has all signed messages. The score of each is the second in which it
//! expires, so that expired ones can be removed. `CHANNEL:recent` has the newest thousand messages,
//! numbered, with the last number beside them. A gateway reads that number, and then the messages after the
//! last one that it has. If some in between are missing, it reads the whole list.
//!
//! Sorted sets rather than a stream: publishers may often `XADD` to any key, and could trim a stream.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ssegate_auth::revocation::{MAX_REMEMBERED, MAX_REVOCATIONS};
use ssegate_hub::ChannelName;
use ssegate_resp::Value;

use super::super::error::SourceError;
use super::super::keyed::KeyedConnection;

/// Messages in `CHANNEL:recent`, at most.
const MAX_RECENT: usize = 1000;

/// Messages that are read at once, at most.
const PAGE: usize = 500;

/// The member of `CHANNEL:recent` whose score is the last number. It sorts behind a message with the same
/// score, which is base64.
const LAST_NUMBER: &str = "last-number";

/// The store of one control channel, and how far it was read.
#[derive(Debug)]
pub(super) struct RevocationStore {
    list: String,
    recent: String,
    // All up to this number were read; `None`: nothing is known.
    position: Option<u64>,
    // The list is being read: the number when that began, and how many were read.
    reading: Option<(u64, usize)>,
}

impl RevocationStore {
    pub(super) fn new(channel: &ChannelName) -> Self {
        let (list, recent) = (format!("{channel}:list"), format!("{channel}:recent"));
        Self { list, recent, position: None, reading: None }
    }

    /// Reads the whole list next.
    pub(super) fn forget_position(&mut self) {
        (self.position, self.reading) = (None, None);
    }

    /// The next messages that may be new; empty: there are none.
    pub(super) async fn next_page(
        &mut self,
        connection: &mut KeyedConnection,
    ) -> Result<Vec<Bytes>, SourceError> {
        if self.reading.is_none() {
            // Read first: messages that arrive meanwhile are read the next time.
            let last = self.last_number(connection).await?;
            match self.position {
                Some(position) if position == last => return Ok(Vec::new()),
                Some(position) if position < last && last - position <= MAX_RECENT as u64 => {
                    let recent = self.between(connection, position, last).await?;
                    if recent.len() as u64 == last - position {
                        self.position = Some(last);
                        return Ok(recent);
                    }
                }
                // The first time, or Redis has lost the store, or too many messages are new.
                _ => {}
            }
            self.reading = Some((last, 0));
        }
        self.list_page(connection).await
    }

    async fn last_number(&self, connection: &mut KeyedConnection) -> Result<u64, SourceError> {
        match self.request(connection, "ZSCORE", &[&self.recent, LAST_NUMBER]).await? {
            Value::Null => Ok(0),
            reply => number(&reply),
        }
    }

    /// The messages with these numbers.
    async fn between(
        &self,
        connection: &mut KeyedConnection,
        behind: u64,
        last: u64,
    ) -> Result<Vec<Bytes>, SourceError> {
        let (behind, last) = (format!("({behind}"), last.to_string());
        let arguments = [&*self.recent, &last, &behind];
        let mut members =
            messages(self.request(connection, "ZREVRANGEBYSCORE", &arguments).await?)?;
        members.retain(|member| member != LAST_NUMBER);
        Ok(members)
    }

    /// The next page of the list, in descending order of expiry. Expired messages are removed at the other
    /// end, so that no message is skipped.
    async fn list_page(
        &mut self,
        connection: &mut KeyedConnection,
    ) -> Result<Vec<Bytes>, SourceError> {
        let (number, offset) = self.reading.unwrap_or_default();
        let now = format!("({}", seconds(SystemTime::now()));
        let (from, most) = (offset.to_string(), PAGE.to_string());
        let arguments = [&self.list, "+inf", &now, "LIMIT", &from, &most];
        let page = messages(self.request(connection, "ZREVRANGEBYSCORE", &arguments).await?)?;
        if page.is_empty() {
            (self.position, self.reading) = (Some(number), None);
        } else {
            self.reading = Some((number, offset + page.len()));
        }
        Ok(page)
    }

    /// Adds a message, and removes what has expired.
    pub(super) async fn add(
        &self,
        connection: &mut KeyedConnection,
        message: &str,
        expires: SystemTime,
    ) -> Result<(), SourceError> {
        let score = seconds(expires).to_string();
        let now = seconds(SystemTime::now()).to_string();
        let (beyond, beyond_recent) = (rank(MAX_REVOCATIONS), rank(MAX_RECENT + 1));
        let kept = MAX_REMEMBERED.as_secs().to_string();
        // First, so that a gateway that sees the number finds the message.
        self.request(connection, "ZADD", &[&self.list, &score, message]).await?;
        self.request(connection, "ZREMRANGEBYSCORE", &[&self.list, "-inf", &now]).await?;
        self.request(connection, "ZREMRANGEBYRANK", &[&self.list, "0", &beyond]).await?;
        self.request(connection, "EXPIRE", &[&self.list, &kept]).await?;
        let next = [&*self.recent, "INCR", "1", LAST_NUMBER];
        let number = number(&self.request(connection, "ZADD", &next).await?)?.to_string();
        self.request(connection, "ZADD", &[&self.recent, &number, message]).await?;
        self.request(connection, "ZREMRANGEBYRANK", &[&self.recent, "0", &beyond_recent]).await?;
        self.request(connection, "EXPIRE", &[&self.recent, &kept]).await?;
        Ok(())
    }

    async fn request(
        &self,
        connection: &mut KeyedConnection,
        command: &str,
        arguments: &[&str],
    ) -> Result<Value, SourceError> {
        let key = arguments[0];
        let reply = connection.request(Some(key), command, arguments.iter().copied()).await;
        reply.map_err(|error| error.for_command(format!("{command} of the key {key:?}")))
    }
}

/// Tests what a gateway needs, and changes nothing.
pub(in super::super) async fn inspect(
    connection: &mut KeyedConnection,
    channel: &ChannelName,
) -> Result<(), SourceError> {
    let store = RevocationStore::new(channel);
    let (list, recent) = (&*store.list, &*store.recent);
    for (command, arguments) in [
        ("ZSCORE", &[recent, LAST_NUMBER][..]),
        ("ZREVRANGEBYSCORE", &[recent, "0", "0"]),
        ("ZREVRANGEBYSCORE", &[list, "0", "0"]),
        // Changes only an existing member, and there is none.
        ("ZADD", &[list, "XX", "0", "ssegate-check"]),
        ("ZADD", &[recent, "XX", "INCR", "0", "ssegate-check"]),
        ("ZREMRANGEBYSCORE", &[list, "1", "0"]),
        ("ZREMRANGEBYRANK", &[list, "1", "0"]),
        ("ZREMRANGEBYRANK", &[recent, "1", "0"]),
    ] {
        store.request(connection, command, arguments).await?;
    }
    let kept = MAX_REMEMBERED.as_secs().to_string();
    for key in [list, recent] {
        store.request(connection, "EXPIRE", &[key, &kept]).await?;
    }
    // An empty message is ignored.
    let published = connection.request(None, "PUBLISH", [channel.as_str(), ""].into_iter()).await;
    let what = format!("PUBLISH to the channel {channel:?}");
    published.map(drop).map_err(|error| error.for_command(what))
}

/// The rank of the last member that is removed so that `most` are left.
fn rank(most: usize) -> String {
    format!("-{}", most + 1)
}

/// The second that a time falls in; of an expiry, the last second in which the revocation may apply.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A score that is a whole number: a double, or its text in RESP2.
fn number(reply: &Value) -> Result<u64, SourceError> {
    let unexpected = || SourceError::Unexpected(format!("{reply:?}"));
    let score = match reply {
        Value::Double(score) => *score,
        reply => {
            let text = reply.as_bytes().and_then(|text| str::from_utf8(text).ok());
            text.and_then(|text| text.parse().ok()).ok_or_else(unexpected)?
        }
    };
    // Below 2^53 a double is exact.
    let is_whole = score.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&score);
    format!("{score:.0}").parse().ok().filter(|_| is_whole).ok_or_else(unexpected)
}

/// The members in a reply, copied out of the read buffer.
fn messages(reply: Value) -> Result<Vec<Bytes>, SourceError> {
    let Value::Array(members) = reply else {
        return Err(SourceError::Unexpected(format!("{reply:?}")));
    };
    let copy = |member: &Value| Bytes::copy_from_slice(member.as_bytes().map_or(b"", |it| it));
    Ok(members.iter().map(copy).collect())
}

#[cfg(test)]
mod tests {
    use ssegate_resp::Value;

    use super::number;

    #[test]
    fn a_score_is_a_whole_number_in_either_protocol() {
        for (reply, expected) in [
            (Value::Double(7.0), Some(7)),
            (Value::Bulk("12".into()), Some(12)),
            (Value::Double(7.5), None),
            (Value::Double(-1.0), None),
            (Value::Double(f64::NAN), None),
            (Value::Double(1e300), None),
            (Value::Bulk("many".into()), None),
            (Value::Integer(1), None),
        ] {
            assert_eq!(number(&reply).ok(), expected, "{reply:?}");
        }
    }
}
