//! Asks sentinels which server is the master.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use redis::ConnectionAddr;
use ssegate_resp::Value;
use tokio::time::Instant;

use super::Sentinels;
use crate::source::redis::connection::{ConnectionKind, RedisConnection};
use crate::source::redis::error::SourceError;

/// How long a sentinel may take to reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the others are waited for once one has named a master.
const PATIENCE: Duration = Duration::from_millis(200);
/// The longest reply of a sentinel, in bytes.
pub(in super::super) const MAX_REPLY_BYTES: usize = 64 << 10;

/// What one sentinel said.
type Said = Result<Option<ConnectionAddr>, SourceError>;

impl Sentinels {
    /// The server that most sentinels name. Where none names one: the master that was found last.
    ///
    /// # Errors
    /// No sentinel can be reached, or knows the master.
    pub(in super::super) async fn find_master(&self) -> Result<ConnectionAddr, SourceError> {
        let said = self.ask_all().await;
        let sentinels = self.0.address.sentinels();
        let named = said.iter().filter_map(|said| said.as_ref()?.as_ref().ok()?.as_ref());
        if let Some(master) = most_named(named) {
            return Ok(master.clone());
        }
        if let Some(master) = self.master() {
            return Ok(master);
        }
        if said.iter().any(|said| matches!(said, Some(Ok(None)))) {
            return Err(SourceError::UnknownMaster(self.0.address.master().to_owned()));
        }
        let why = said.into_iter().zip(sentinels).find_map(|(said, at)| match said {
            Some(Err(error)) => Some(format!("{at}: {error}")),
            _ => None,
        });
        Err(SourceError::NoSentinel(why.unwrap_or_else(|| "no reply".to_owned())))
    }

    /// Asks all of them at once. Those that are slow are not waited for once others have named a master.
    async fn ask_all(&self) -> Vec<Option<Said>> {
        let sentinels = self.0.address.sentinels();
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
            let arguments = ["GET-MASTER-ADDR-BY-NAME", self.0.address.master()];
            let reply = connection.request("SENTINEL", arguments.into_iter()).await;
            match reply.map_err(|error| error.for_command("SENTINEL GET-MASTER-ADDR-BY-NAME"))? {
                Value::Null | Value::NullArray => Ok(None),
                Value::Array(parts) => address(&parts)
                    .map(|(host, port)| Some(at_same_tls(sentinel, host, port)))
                    .ok_or_else(|| SourceError::Unexpected(format!("{parts:?}"))),
                other => Err(SourceError::Unexpected(format!("{other:?}"))),
            }
        };
        let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
        tokio::time::timeout(REPLY_TIMEOUT, asking).await.unwrap_or(Err(timed_out))
    }

    /// Connects to a sentinel.
    pub(super) async fn open(
        &self,
        sentinel: &ConnectionAddr,
        kind: ConnectionKind,
    ) -> Result<RedisConnection, SourceError> {
        let (login, tls) = (self.0.address.login(), &self.0.tls);
        RedisConnection::open_at((sentinel, tls), login, MAX_REPLY_BYTES, kind).await
    }
}

/// The address that is named most often; of several, the one that is named first.
fn most_named<'a>(named: impl Iterator<Item = &'a ConnectionAddr>) -> Option<&'a ConnectionAddr> {
    let mut votes: Vec<(&ConnectionAddr, usize)> = Vec::new();
    for address in named {
        match votes.iter_mut().find(|(known, _)| *known == address) {
            Some((_, votes)) => *votes += 1,
            None => votes.push((address, 1)),
        }
    }
    let most = votes.iter().map(|(_, votes)| *votes).max()?;
    votes.into_iter().find(|(_, votes)| *votes == most).map(|(address, _)| address)
}

fn address(parts: &[Value]) -> Option<(String, u16)> {
    let [host, port] = parts else { return None };
    let text = |value: &Value| String::from_utf8(value.as_bytes()?.to_vec()).ok();
    Some((text(host)?, text(port)?.parse().ok()?))
}

/// A server beside a sentinel: with TLS, if the sentinel has it.
pub(super) fn at_same_tls(sentinel: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
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

    use super::{address, most_named};

    fn at(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
    }

    #[test]
    fn the_most_sentinels_are_believed_and_of_as_many_the_first() {
        for (named, expected) in
            [(&[][..], None), (&[1], Some(1)), (&[1, 2, 2], Some(2)), (&[2, 1], Some(2))]
        {
            let named: Vec<_> = named.iter().map(|port| at(*port)).collect();
            assert_eq!(most_named(named.iter()).cloned(), expected.map(at), "{named:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        let bulk = |text: &str| Value::Bulk(text.to_owned().into());
        assert_eq!(address(&[bulk("10.0.0.1"), bulk("6379")]), Some(("10.0.0.1".to_owned(), 6379)));
        for parts in [vec![], vec![bulk("a")], vec![bulk("a"), bulk("70000")], vec![Value::Null; 2]]
        {
            assert_eq!(address(&parts), None, "{parts:?}");
        }
    }
}
