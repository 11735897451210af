//! One upstream, as one shard knows it: its address and its kept connections.

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body::Lease;
use super::connect;
use super::connection::Connection;
use super::error::Failure;
use super::pool::Pool;
use super::upload::Upload;
use crate::route::{ProxySettings, UpstreamAddress};

/// Where requests are sent.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: UpstreamAddress,
    pool: Pool,
}

impl Upstream {
    pub(super) fn new(address: UpstreamAddress, settings: &ProxySettings) -> Self {
        Self { address, pool: Pool::new(settings.keep_alive) }
    }

    /// Sends a request, on a kept connection where there is one, and waits for the head of the
    /// response. A kept connection may turn out to have been closed: what was not begun on it is
    /// sent on another.
    pub(super) async fn send(
        &self,
        mut request: Request<Upload>,
        settings: &ProxySettings,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        loop {
            let kept = self.pool.take();
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect(settings).await?,
            };
            let answer = timeout(settings.response_timeout, connection.send(request)).await;
            match answer.map_err(|_elapsed| Failure::ResponseTimeout)? {
                Ok(response) => {
                    return Ok((response, Lease { connection, pool: self.pool.clone() }));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(Failure::exchange(error.error())),
                },
            }
        }
    }

    async fn connect(&self, settings: &ProxySettings) -> Result<Connection, Failure> {
        let connecting = async {
            let socket = connect::connect(&self.address).await;
            let socket = socket.map_err(|error| Failure::connect(&error))?;
            Connection::speak(socket).await.map_err(|error| Failure::connect(&error))
        };
        timeout(settings.connect_timeout, connecting)
            .await
            .map_err(|_elapsed| Failure::ConnectTimeout)?
    }
}
