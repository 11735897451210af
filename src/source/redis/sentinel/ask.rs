//! Asks sentinels which server is the master.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use redis::ConnectionAddr;
use ssegate_resp::Value;
use tokio::time::Instant;

use super::{NamedMaster, Sentinels};
use crate::source::redis::connection::{ConnectionKind, RedisConnection};
use crate::source::redis::error::SourceError;
use crate::source::redis::socket::CONNECT_TIMEOUT;

/// How long a sentinel may take to reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the others are waited for once one has named a master.
const PATIENCE: Duration = Duration::from_millis(300);
/// The longest reply of a sentinel, in bytes.
pub(in super::super) const MAX_REPLY_BYTES: usize = 64 << 10;

/// What one sentinel said: an address, and the version of its configuration. `None`: it knows no such master.
type Said = Result<Option<(ConnectionAddr, u64)>, SourceError>;

impl Sentinels {
    /// The server that the newest configuration names. Where no sentinel names one: the master that was found last.
    ///
    /// # Errors
    /// No sentinel can be reached, or knows the master, and none was found yet.
    pub(in super::super) async fn find_master(&self) -> Result<NamedMaster, SourceError> {
        let asked = Instant::now();
        let said = self.ask_all().await;
        let named = said.iter().filter_map(|said| said.as_ref()?.as_ref().ok()?.as_ref());
        if let Some((address, epoch)) = newest(named) {
            let is_from_all = said.iter().all(|said| matches!(said, Some(Ok(Some(_)))));
            return Ok(NamedMaster { address: address.clone(), epoch: *epoch, asked, is_from_all });
        }
        if let Some(master) = &*self.0.master.borrow() {
            return Ok(master.clone());
        }
        if said.iter().any(|said| matches!(said, Some(Ok(None)))) {
            return Err(SourceError::UnknownMaster(self.address().master().to_owned()));
        }
        let why =
            said.into_iter().zip(self.address().sentinels()).find_map(|(said, at)| match said {
                Some(Err(error)) => Some(format!("{at}: {error}")),
                _ => None,
            });
        Err(SourceError::NoSentinel(why.unwrap_or_else(|| "no reply".to_owned())))
    }

    /// Asks all of them at once. Those that are slow are not waited for long once one has named a master.
    async fn ask_all(&self) -> Vec<Option<Said>> {
        let sentinels = self.address().sentinels();
        let mut asking: Vec<Pin<Box<dyn Future<Output = Said> + '_>>> =
            sentinels.iter().map(|sentinel| Box::pin(self.ask(sentinel)) as _).collect();
        let mut said: Vec<Option<Said>> = sentinels.iter().map(|_| None).collect();
        let patience = tokio::time::sleep(REPLY_TIMEOUT);
        tokio::pin!(patience);
        poll_fn(|cx| {
            for (question, said) in asking.iter_mut().zip(&mut said) {
                if said.is_none()
                    && let Poll::Ready(reply) = question.as_mut().poll(cx)
                {
                    let is_named = matches!(reply, Ok(Some(_)));
                    *said = Some(reply);
                    let limit = Instant::now() + PATIENCE;
                    if is_named && limit < patience.deadline() {
                        patience.as_mut().reset(limit);
                    }
                }
            }
            let is_done = said.iter().all(Option::is_some) || patience.as_mut().poll(cx).is_ready();
            if is_done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(asking);
        said
    }

    async fn ask(&self, sentinel: &ConnectionAddr) -> Said {
        let asking = async {
            let mut connection = self.open(sentinel, ConnectionKind::Command).await?;
            let arguments = ["MASTER", self.address().master()];
            match connection.request("SENTINEL", arguments.into_iter()).await {
                Ok(reply) => match master(&fields(&reply)) {
                    Some((host, port, epoch)) => {
                        Ok(Some((at_same_tls(sentinel, host, port), epoch)))
                    }
                    None => Err(SourceError::Unexpected(format!("{reply:?}"))),
                },
                Err(SourceError::Refused(message)) if message.contains("No such master") => {
                    Ok(None)
                }
                Err(error) => Err(error.for_command("SENTINEL MASTER")),
            }
        };
        let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
        tokio::time::timeout(REPLY_TIMEOUT, asking).await.unwrap_or(Err(timed_out))
    }

    /// Connects to a sentinel. The caller limits the time of the handshake.
    pub(in super::super) async fn open(
        &self,
        sentinel: &ConnectionAddr,
        kind: ConnectionKind,
    ) -> Result<RedisConnection, SourceError> {
        let (login, tls) = (self.address().login(), &self.0.tls);
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        RedisConnection::open_at((sentinel, tls), login, (MAX_REPLY_BYTES, kind), deadline).await
    }
}

/// The address of the newest configuration; of several as new, the one that is named most often, or first.
fn newest<'a>(
    named: impl Iterator<Item = &'a (ConnectionAddr, u64)>,
) -> Option<&'a (ConnectionAddr, u64)> {
    let mut votes: Vec<(&(ConnectionAddr, u64), usize)> = Vec::new();
    for address in named {
        match votes.iter_mut().find(|(known, _)| *known == address) {
            Some((_, votes)) => *votes += 1,
            None => votes.push((address, 1)),
        }
    }
    // Of equal ones `max_by_key` returns the last.
    votes.reverse();
    let winner = votes.into_iter().max_by_key(|((_, epoch), votes)| (*epoch, *votes));
    winner.map(|(address, _)| address)
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

/// Host, port and `config-epoch` of a master.
fn master(fields: &[(&[u8], &[u8])]) -> Option<(String, u16, u64)> {
    let field = |name: &str| {
        let (_, value) = fields.iter().find(|(key, _)| *key == name.as_bytes())?;
        str::from_utf8(value).ok()
    };
    let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Some((field("ip")?.to_owned(), field("port")?.parse().ok()?, epoch))
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
    use redis::ConnectionAddr;
    use ssegate_resp::Value;

    use super::{fields, master, newest};

    #[test]
    fn the_newest_configuration_is_believed_then_most_sentinels_then_the_first() {
        let at = |port| ConnectionAddr::Tcp("10.0.0.1".to_owned(), port);
        for (named, expected) in [
            (&[][..], None),
            (&[(1, 0)], Some(1)),
            (&[(1, 0), (2, 0), (2, 0)], Some(2)),
            (&[(2, 0), (1, 0)], Some(2)),
            (&[(1, 3), (1, 3), (2, 4)], Some(2)),
        ] {
            let named: Vec<_> = named.iter().map(|(port, epoch)| (at(*port), *epoch)).collect();
            let expected = expected.map(at);
            assert_eq!(newest(named.iter()).map(|(at, _)| at.clone()), expected, "{named:?}");
        }
    }

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
        for words in [&[][..], &["ip"], &["ip", "a"], &["ip", "a", "port", "70000"]] {
            let reply = Value::Array(words.iter().map(|word| bulk(word)).collect());
            assert_eq!(master(&fields(&reply)), None, "{words:?}");
        }
    }
}
