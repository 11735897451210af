//! Sentinels: which server is the master now, and when it has moved.
//!
//! A connection asks all sentinels ([`ask`]), connects to the server that a majority of them names ([`vote`]), and
//! checks with `ROLE` that it is a master. When another server has proved to be the master, all connections to the old
//! one end and are opened anew. The old master may continue as if nothing had happened, but messages that are published
//! at the new one do not reach it. The connections also end when a majority names a server that cannot be used: the
//! gateway is then not ready and reports it, instead of staying at a server that receives nothing.
//!
//! <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

mod ask;
mod status;
mod vote;

use std::sync::Arc;

use redis::ConnectionAddr;
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) use self::ask::{MAX_REPLY_BYTES, at_same_tls, host_and_port};
use self::status::SentinelStatus;
use super::connection::ConnectionMoved;
use super::error::SourceError;
use super::location::{SentinelAddress, ShownAddress};
use super::socket::RedisTls;

/// The sentinels of one master. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Sentinels(Arc<SentinelState>);

#[derive(Debug)]
struct SentinelState {
    address: SentinelAddress,
    tls: RedisTls,
    master: watch::Sender<KnownMaster>,
    status: SentinelStatus,
}

/// Where connections lead to.
#[derive(Debug, Default)]
struct KnownMaster {
    // The server that last proved to be the master.
    found: Option<NamedMaster>,
    // A server that a majority of the sentinels has named since, and that cannot be used. Connections do not return to
    // the old one: it is not the master any more.
    awaited: Option<NamedMaster>,
}

impl KnownMaster {
    fn current(&self) -> Option<&NamedMaster> {
        self.awaited.as_ref().or(self.found.as_ref())
    }
}

/// A server that sentinels name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedMaster {
    pub(super) address: ConnectionAddr,
    // The version of the configuration that names it (`config-epoch`), which a failover increases.
    epoch: u64,
    // When they were asked.
    asked: Instant,
    // A majority of all sentinels names it.
    is_agreed: bool,
}

impl NamedMaster {
    /// Whether this is out of date after `now` has proved to be the master.
    fn is_older_than(&self, now: &Self) -> bool {
        // Sentinels that were set up again count from 0.
        self.asked < now.asked || (self.epoch < now.epoch && !self.is_agreed)
    }
}

impl Sentinels {
    pub(super) fn new(address: SentinelAddress, tls: RedisTls) -> Self {
        let status = SentinelStatus::new(address.sentinels().len());
        Self(Arc::new(SentinelState { address, tls, master: watch::Sender::default(), status }))
    }

    /// The sentinels, and the name of the master.
    pub(super) fn address(&self) -> &SentinelAddress {
        &self.0.address
    }

    /// Which of them can be reached.
    pub(super) fn status(&self) -> &SentinelStatus {
        &self.0.status
    }

    /// The server that last proved to be the master or, if it cannot be used, the one that a majority names.
    pub(super) fn master(&self) -> Option<ConnectionAddr> {
        self.current().map(|master| master.address)
    }

    fn current(&self) -> Option<NamedMaster> {
        self.0.master.borrow().current().cloned()
    }

    /// Records that a server has proved to be the master. Returns a future that completes when it is not any more.
    ///
    /// # Errors
    /// Another server has proved to be the master since the sentinels were asked: this one was the master, and may
    /// still believe that it is.
    pub(super) fn found(&self, found: NamedMaster) -> Result<ConnectionMoved, SourceError> {
        let mut moved_to = None;
        let mut has_changed = false;
        self.0.master.send_if_modified(|known| {
            let current = known.current();
            let is_same = current.is_some_and(|current| current.address == found.address);
            let newer = current.filter(|current| found.is_older_than(current));
            if let Some(newer) = newer.filter(|_| !is_same) {
                moved_to = Some(ShownAddress(&newer.address).to_string());
                return false;
            }
            let newest = newer.unwrap_or(&found).clone();
            let before = known.found.as_ref();
            has_changed = before.is_some_and(|before| before.address != newest.address);
            *known = KnownMaster { found: Some(newest), awaited: None };
            !is_same
        });
        if let Some(moved_to) = moved_to {
            return Err(SourceError::MasterMoved(moved_to));
        }
        if has_changed {
            self.0.status.record_change();
        }
        Ok(self.when_moved(found.address))
    }

    /// Records that a server that sentinels name cannot be used. If a majority names it, connections to other servers
    /// end.
    pub(super) fn cannot_use(&self, named: &NamedMaster) {
        self.0.master.send_if_modified(|known| {
            let is_elsewhere = known.current().is_some_and(|current| {
                current.address != named.address && !named.is_older_than(current)
            });
            if is_elsewhere && named.is_agreed {
                known.awaited = Some(named.clone());
            }
            is_elsewhere && named.is_agreed
        });
    }

    /// Completes when connections have to lead elsewhere than to `address`.
    fn when_moved(&self, address: ConnectionAddr) -> ConnectionMoved {
        let mut master = self.0.master.subscribe();
        Box::pin(async move {
            let elsewhere = |known: &KnownMaster| {
                let current = known.current().filter(|current| current.address != address)?;
                Some(ShownAddress(&current.address).to_string())
            };
            let moved = master.wait_for(|known| elsewhere(known).is_some()).await;
            match moved.ok().and_then(|known| elsewhere(&known)) {
                Some(moved_to) => SourceError::MasterMoved(moved_to),
                // The gateway has ended.
                None => std::future::pending().await,
            }
        })
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

    fn sentinels() -> Sentinels {
        let login = RedisConnectionInfo::default();
        let address = SentinelAddress::new(vec![at(1)], "m".to_owned(), login).expect("one");
        Sentinels::new(address, RedisTls::new(&at(1)))
    }

    /// `seconds`: when the sentinels were asked.
    fn named(
        start: Instant,
        (port, epoch): (u16, u64),
        seconds: u64,
        is_agreed: bool,
    ) -> NamedMaster {
        let asked = start + Duration::from_secs(seconds);
        NamedMaster { address: at(port), epoch, asked, is_agreed }
    }

    #[tokio::test]
    async fn an_older_answer_does_not_bring_the_old_master_back() {
        let sentinels = sentinels();
        let start = Instant::now();
        let named =
            |port, epoch, seconds, is_agreed| named(start, (port, epoch), seconds, is_agreed);
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
        // Most of them were set up anew.
        let _newest = sentinels.found(named(7, 0, 9, true)).expect("most say so");
        assert_eq!(new.await.to_string(), "the master is now 10.0.0.1:7");
        assert_eq!(sentinels.status().take_changes(), 2);
    }

    #[tokio::test]
    async fn the_old_master_is_left_for_one_that_a_majority_names_and_that_cannot_be_used() {
        let sentinels = sentinels();
        let start = Instant::now();
        let old = sentinels.found(named(start, (7, 0), 0, true)).expect("the first");
        // One sentinel alone may say what it likes, and what was said before counts no more.
        sentinels.cannot_use(&named(start, (9, 9), 1, false));
        sentinels.cannot_use(&named(start + Duration::from_secs(1), (7, 0), 1, true));
        assert_eq!(sentinels.master(), Some(at(7)));
        sentinels.cannot_use(&named(start, (8, 1), 5, true));
        assert_eq!(old.await.to_string(), "the master is now 10.0.0.1:8");
        let error =
            sentinels.found(named(start, (7, 0), 4, true)).err().expect("it was asked before");
        assert_eq!(error.to_string(), "the master is now 10.0.0.1:8");
        let _new = sentinels.found(named(start, (8, 1), 6, true)).expect("it can be used now");
        assert_eq!(sentinels.status().take_changes(), 1);
        assert_eq!(sentinels.status().take_changes(), 0);
    }
}
