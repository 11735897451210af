//! Asks sentinels which server is the master.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use redis::ConnectionAddr;
use ssegate_resp::Value;
use tokio::time::Instant;

use super::vote::{SentinelReply, SentinelVote};
use super::{NamedMaster, Sentinels};
use crate::source::redis::connection::{ConnectionKind, RedisConnection};
use crate::source::redis::error::SourceError;
use crate::source::redis::location::ShownAddress;

/// How long a sentinel may take to reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait for the other sentinels once a majority has named the same master.
const MAJORITY_WAIT: Duration = Duration::from_millis(300);
/// The longest reply of a sentinel, in bytes.
pub(in super::super) const MAX_REPLY_BYTES: usize = 64 << 10;
/// The longest name of a host (RFC 1035, section 2.3.4), in bytes.
const MAX_HOST: usize = 255;

impl Sentinels {
    /// The servers that may be the master, the most likely first. If no majority names one, the last is the master that
    /// was used before. Never empty.
    ///
    /// # Errors
    /// No sentinel can be reached, or none knows the master, and no master was used before.
    pub(in super::super) async fn find_masters(&self) -> Result<Vec<NamedMaster>, SourceError> {
        let asked = Instant::now();
        let vote = self.ask_all(asked).await;
        let mut masters = vote.candidates(asked);
        self.0.status.record_replies(self.address(), &vote);
        let is_agreed = masters.first().is_some_and(|first| first.is_agreed);
        if !is_agreed && let Some(last) = self.current() {
            let is_named = masters.iter().any(|master| master.address == last.address);
            masters.extend((!is_named).then_some(last));
        }
        if !masters.is_empty() {
            return Ok(masters);
        }
        if vote.0.iter().any(|reply| matches!(reply, Some(Ok(None)))) {
            return Err(SourceError::UnknownMaster(self.address().master().to_owned()));
        }
        let why =
            vote.0.into_iter().zip(self.address().sentinels()).find_map(
                |(reply, at)| match reply {
                    Some(Err(error)) => Some(format!("{}: {error}", ShownAddress(at))),
                    _ => None,
                },
            );
        Err(SourceError::NoSentinel(why.unwrap_or_else(|| "no reply".to_owned())))
    }

    /// Asks all of them at once. Does not wait long for slow ones once a majority has named the same server.
    async fn ask_all(&self, asked: Instant) -> SentinelVote {
        let sentinels = self.address().sentinels();
        let mut asking: Vec<Pin<Box<dyn Future<Output = SentinelReply> + '_>>> =
            sentinels.iter().map(|sentinel| Box::pin(self.ask(sentinel, asked)) as _).collect();
        let mut vote = SentinelVote::new(sentinels.len());
        // Each question has its own timeout.
        let patience = tokio::time::sleep_until(asked + 2 * REPLY_TIMEOUT);
        tokio::pin!(patience);
        poll_fn(|cx| {
            for (question, reply) in asking.iter_mut().zip(&mut vote.0) {
                if reply.is_none()
                    && let Poll::Ready(said) = question.as_mut().poll(cx)
                {
                    *reply = Some(said);
                }
            }
            let limit = Instant::now() + MAJORITY_WAIT;
            if limit < patience.deadline() && vote.is_decided() {
                patience.as_mut().reset(limit);
            }
            let is_done =
                vote.0.iter().all(Option::is_some) || patience.as_mut().poll(cx).is_ready();
            if is_done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(asking);
        vote
    }

    /// Asks one of them, which has [`REPLY_TIMEOUT`] from `asked` on.
    pub(super) async fn ask(&self, sentinel: &ConnectionAddr, asked: Instant) -> SentinelReply {
        let deadline = asked + REPLY_TIMEOUT;
        let asking = async {
            let mut connection = self.open(sentinel, ConnectionKind::Command, deadline).await?;
            let arguments = ["MASTER", self.address().master()];
            match connection.request("SENTINEL", arguments.into_iter()).await {
                Ok(reply) => match master(&fields(&reply)) {
                    Some((host, port, epoch)) => {
                        Ok(Some((at_same_tls(sentinel, host, port), epoch)))
                    }
                    None => Err(SourceError::NoAddress),
                },
                Err(SourceError::Refused(message)) if message.contains("No such master") => {
                    Ok(None)
                }
                // A Redis before version 6 does not report in its handshake what it is.
                Err(SourceError::Refused(message)) if message.contains("unknown command") => {
                    Err(SourceError::NoSentinelThere)
                }
                Err(error) => Err(error.for_command("SENTINEL MASTER")),
            }
        };
        let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
        tokio::time::timeout_at(deadline, asking).await.unwrap_or(Err(timed_out))
    }

    /// Connects to a sentinel by `deadline`. The caller limits the time of the handshake.
    pub(in super::super) async fn open(
        &self,
        sentinel: &ConnectionAddr,
        kind: ConnectionKind,
        deadline: Instant,
    ) -> Result<RedisConnection, SourceError> {
        let (login, tls) = (self.address().login(), &self.0.tls);
        let kind = (MAX_REPLY_BYTES, kind);
        match RedisConnection::open_at((sentinel, tls), login, kind, deadline).await {
            Ok(connection) if connection.is_sentinel == Some(false) => {
                Err(SourceError::NoSentinelThere)
            }
            Err(SourceError::Refused(message)) => Err(SourceError::SentinelRefused(message)),
            opened => opened,
        }
    }
}

/// The fields of a reply: a map, or in RESP2 an array of names and values.
fn fields(reply: &Value) -> Vec<(&[u8], &[u8])> {
    fn text(value: &Value) -> Option<&[u8]> {
        value.as_bytes().map(|bytes| &**bytes)
    }
    match reply {
        Value::Map(pairs) => {
            pairs.iter().filter_map(|(key, value)| Some((text(key)?, text(value)?))).collect()
        }
        Value::Array(words) => {
            let pairs = words.as_chunks::<2>().0;
            pairs.iter().filter_map(|[key, value]| Some((text(key)?, text(value)?))).collect()
        }
        _ => Vec::new(),
    }
}

/// Host, port and `config-epoch` of a master, if these are an address.
fn master(fields: &[(&[u8], &[u8])]) -> Option<(String, u16, u64)> {
    let field = |name: &str| {
        let (_, value) = fields.iter().find(|(key, _)| *key == name.as_bytes())?;
        str::from_utf8(value).ok()
    };
    let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let (host, port) = host_and_port(field("ip")?, field("port")?)?;
    Some((host, port, epoch))
}

/// Parses an address as sentinels write it. The gateway connects to it and shows it to people, so the result is `None`
/// unless the host is a name or an IP address, and the port a port.
pub(in super::super) fn host_and_port(host: &str, port: &str) -> Option<(String, u16)> {
    let is_host = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
    let is_named = (1..=MAX_HOST).contains(&host.len()) && host.chars().all(is_host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_named.then(|| (host.to_owned(), port))
}

/// A server beside a sentinel: with TLS, if the sentinel has it.
pub(in super::super) fn at_same_tls(
    sentinel: &ConnectionAddr,
    host: String,
    port: u16,
) -> ConnectionAddr {
    match sentinel {
        ConnectionAddr::TcpTls { insecure, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

#[cfg(test)]
mod tests {
    use ssegate_resp::Value;

    use super::{fields, master};

    #[test]
    fn a_master_is_read_from_both_protocols() {
        let bulk = |text: &str| Value::Bulk(text.to_owned().into());
        let words = ["name", "m", "ip", "10.0.0.1", "port", "6379", "config-epoch", "7"].map(bulk);
        let pairs = words.as_chunks::<2>().0.iter();
        let map = Value::Map(pairs.map(|[key, value]| (key.clone(), value.clone())).collect());
        let expected = Some(("10.0.0.1".to_owned(), 6379, 7));
        for reply in [Value::Array(words.to_vec()), map] {
            assert_eq!(master(&fields(&reply)), expected, "{reply:?}");
        }
        let long = "a".repeat(256);
        for words in [
            &[][..],
            &["ip"],
            &["ip", "a"],
            &["ip", "a", "port", "70000"],
            &["ip", "a", "port", "0"],
            &["ip", "", "port", "1"],
            &["ip", &long, "port", "1"],
            // It would be a line of its own in a log.
            &["ip", "a\n[+] redis ok", "port", "1"],
        ] {
            let reply = Value::Array(words.iter().map(|word| bulk(word)).collect());
            assert_eq!(master(&fields(&reply)), None, "{words:?}");
        }
    }
}
