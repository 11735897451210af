//! Sentinels: which server is the master now, and that it has moved.
//!
//! A connection asks all sentinels ([`ask`]), connects to the server that the newest configuration names, and makes sure
//! by `ROLE` that it is a master. When another server has shown to be the master, all connections to the one before
//! end, and are opened anew: it may go on as if nothing had happened, and what is published there is heard by
//! nobody.
//!
//! <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

mod ask;
mod status;

use std::sync::Arc;

use redis::ConnectionAddr;
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) use self::ask::{MAX_REPLY_BYTES, at_same_tls};
use self::status::SentinelStatus;
use super::connection::ConnectionMoved;
use super::error::SourceError;
use super::location::SentinelAddress;
use super::socket::RedisTls;

/// The sentinels of one master. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Sentinels(Arc<SentinelState>);

#[derive(Debug)]
struct SentinelState {
    address: SentinelAddress,
    tls: RedisTls,
    // The server that has shown to be the master last.
    master: watch::Sender<Option<NamedMaster>>,
    status: SentinelStatus,
}

/// A server that sentinels name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedMaster {
    pub(super) address: ConnectionAddr,
    // The version of the configuration that names it: a failover makes a greater one.
    epoch: u64,
    // When they were asked.
    asked: Instant,
    // All of them have replied.
    is_from_all: bool,
}

impl NamedMaster {
    /// Whether this is out of date where `now` has shown to be the master.
    fn is_older_than(&self, now: &Self) -> bool {
        // Sentinels that were set up anew count from 0 again.
        self.asked < now.asked || (self.epoch < now.epoch && !self.is_from_all)
    }
}

impl Sentinels {
    pub(super) fn new(address: SentinelAddress, tls: RedisTls) -> Self {
        let status = SentinelStatus::new(address.sentinels().len());
        Self(Arc::new(SentinelState { address, tls, master: watch::Sender::new(None), status }))
    }

    /// The sentinels, and the name of the master.
    pub(super) fn address(&self) -> &SentinelAddress {
        &self.0.address
    }

    /// Which of them can be reached.
    pub(super) fn status(&self) -> &SentinelStatus {
        &self.0.status
    }

    /// The server that has shown to be the master last.
    pub(super) fn master(&self) -> Option<ConnectionAddr> {
        self.0.master.borrow().as_ref().map(|master| master.address.clone())
    }

    /// A server has shown to be the master. Returns what tells that it is not any more.
    ///
    /// # Errors
    /// Another one has shown it since the sentinels were asked: this one was the master, and may still take itself
    /// for one.
    pub(super) fn found(&self, found: NamedMaster) -> Result<ConnectionMoved, SourceError> {
        let mut moved_to = None;
        self.0.master.send_if_modified(|master| match master {
            Some(now) if now.address == found.address => {
                if !found.is_older_than(now) {
                    *now = found.clone();
                }
                false
            }
            Some(now) if found.is_older_than(now) => {
                moved_to = Some(now.address.to_string());
                false
            }
            master => {
                *master = Some(found.clone());
                true
            }
        });
        if let Some(moved_to) = moved_to {
            return Err(SourceError::MasterMoved(moved_to));
        }
        let (mut master, address) = (self.0.master.subscribe(), found.address);
        Ok(Box::pin(async move {
            let has_moved =
                |now: &Option<NamedMaster>| now.as_ref().is_some_and(|now| now.address != address);
            let moved_to = master.wait_for(has_moved).await;
            let moved_to = moved_to.map(|now| now.as_ref().map(|now| now.address.to_string()));
            match moved_to {
                Ok(moved_to) => SourceError::MasterMoved(moved_to.unwrap_or_default()),
                // The gateway has ended.
                Err(_) => std::future::pending().await,
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redis::{ConnectionAddr, RedisConnectionInfo};
    use tokio::time::Instant;

    use super::{NamedMaster, Sentinels};
    use crate::source::redis::location::SentinelAddress;
    use crate::source::redis::socket::RedisTls;

    fn at(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
    }

    #[tokio::test]
    async fn an_older_answer_does_not_bring_the_old_master_back() {
        let login = RedisConnectionInfo::default();
        let address = SentinelAddress::new(vec![at(1)], "m".to_owned(), login).expect("one");
        let sentinels = Sentinels::new(address, RedisTls::new(&at(1)));
        let start = Instant::now();
        let named = |port, epoch, seconds, is_from_all| NamedMaster {
            address: at(port),
            epoch,
            asked: start + Duration::from_secs(seconds),
            is_from_all,
        };
        let old = sentinels.found(named(7, 0, 0, true)).expect("the first");
        let new = sentinels.found(named(8, 1, 5, false)).expect("a failover");
        assert_eq!(old.await.to_string(), "the master is now 10.0.0.1:8");
        // It asked before the failover, and the old master was slow to say that it is one.
        for stale in [named(7, 0, 4, true), named(7, 0, 6, false)] {
            let error = sentinels.found(stale).err().expect("it is refused");
            assert_eq!(error.to_string(), "the master is now 10.0.0.1:8");
        }
        assert!(sentinels.found(named(8, 1, 3, true)).is_ok(), "it is the same");
        assert_eq!(sentinels.master(), Some(at(8)));
        // All of them were set up anew.
        let _newest = sentinels.found(named(7, 0, 9, true)).expect("all say so");
        assert_eq!(new.await.to_string(), "the master is now 10.0.0.1:7");
    }
}
