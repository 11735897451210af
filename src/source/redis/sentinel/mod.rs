//! Sentinels: which server is the master now, and that it has moved.
//!
//! A connection asks all sentinels, connects to the server that most of them name, and makes sure by `ROLE` that it is
//! a master ([`ask`]). Meanwhile each sentinel is followed ([`watch`]): when the master has moved, all
//! connections to the server that it was end, and are opened anew. That server may go on as if nothing had happened:
//! what is published there then is heard by nobody.
//!
//! <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

mod ask;
mod status;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use redis::ConnectionAddr;

pub(super) use self::ask::MAX_REPLY_BYTES;
use self::status::SentinelStatus;
pub(crate) use self::watch::SentinelWatch;
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
    master: tokio::sync::watch::Sender<Option<ConnectionAddr>>,
    status: SentinelStatus,
}

/// Completes when the master is another server.
pub(super) type MasterMoved = Pin<Box<dyn Future<Output = SourceError>>>;

impl Sentinels {
    pub(super) fn new(address: SentinelAddress, tls: RedisTls) -> Self {
        let master = tokio::sync::watch::Sender::new(None);
        let status = SentinelStatus::new(address.sentinels().len());
        Self(Arc::new(SentinelState { address, tls, master, status }))
    }

    /// The server that has shown to be the master last.
    pub(super) fn master(&self) -> Option<ConnectionAddr> {
        self.0.master.borrow().clone()
    }

    /// The server at this address has shown to be the master. Returns what tells that it is not any more.
    pub(super) fn found(&self, address: &ConnectionAddr) -> MasterMoved {
        self.0.master.send_if_modified(|master| {
            let is_other = master.as_ref() != Some(address);
            if is_other {
                *master = Some(address.clone());
            }
            is_other
        });
        let (mut master, address) = (self.0.master.subscribe(), address.clone());
        Box::pin(async move {
            let has_moved =
                |now: &Option<ConnectionAddr>| now.as_ref().is_some_and(|now| *now != address);
            match master.wait_for(has_moved).await {
                Ok(now) => SourceError::MasterMoved(
                    now.as_ref().map(ToString::to_string).unwrap_or_default(),
                ),
                // The gateway has ended.
                Err(_) => std::future::pending().await,
            }
        })
    }
}
