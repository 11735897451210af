//! One upstream, as one shard knows it: its address, its connections, and whether it is down.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::connect::{Connector, Socket};
use super::connection::{Connection, Sent};
use super::error::{Failure, Unanswered};
use super::facts::{Facts, Place};
use super::lease::Lease;
use super::pool::Pool;
use super::shared::SharedConnection;
use super::upload::{Upload, Watch};
use crate::route::{ProxySettings, UpstreamAddress};

/// Where requests are sent.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: UpstreamAddress,
    connector: Connector,
    pool: Pool,
    // One at a time connects over HTTP/2: the others share what it opens.
    connecting: Semaphore,
    down_until: Cell<Option<Instant>>,
    max_connections: usize,
    connect_timeout: Duration,
    facts: Facts,
}

impl Upstream {
    pub(super) fn new(address: UpstreamAddress, settings: &ProxySettings, facts: Facts) -> Self {
        Self {
            connector: Connector::new(address.clone(), &settings.tls),
            address,
            pool: Pool::new(settings.keep_alive),
            connecting: Semaphore::new(1),
            down_until: Cell::new(None),
            max_connections: settings.max_connections,
            connect_timeout: settings.connect_timeout,
            facts,
        }
    }

    /// Whether it has not failed lately.
    pub(super) fn is_up(&self) -> bool {
        self.down_until.get().is_none_or(|until| until <= Instant::now())
    }

    /// It has failed, and is passed over for so long.
    pub(super) fn failed(&self, fail_timeout: Duration) {
        self.down_until.set(Some(Instant::now() + fail_timeout));
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// With the request, where nothing of it was sent.
    pub(super) async fn send(
        &self,
        request: Request<Upload>,
        watch: &Rc<Watch>,
        is_http2: bool,
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        let sent = if is_http2 {
            self.send_shared(request, watch).await
        } else {
            self.send_alone(request, watch).await
        };
        if sent.is_ok() {
            self.down_until.set(None);
        }
        sent
    }

    /// Over HTTP/1.1. A kept connection may turn out to have been closed: what was not begun on it
    /// is sent on another.
    async fn send_alone(
        &self,
        mut request: Request<Upload>,
        watch: &Rc<Watch>,
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        loop {
            let kept = self.pool.take();
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(connection) => connection,
                    Err(failure) => return Err(unsent(failure, request)),
                },
            };
            match watch.answer(connection.send(request)).await? {
                Ok(response) => {
                    let (pool, watch) = (self.pool.clone(), Rc::clone(watch));
                    let lease = Lease::Own { connection, pool, watch, keep_alive: None };
                    return Ok((response, lease));
                }
                sent => request = again(sent, is_kept, watch)?,
            }
        }
    }

    /// Over HTTP/2: a connection may go away as the request is sent.
    async fn send_shared(
        &self,
        mut request: Request<Upload>,
        watch: &Rc<Watch>,
    ) -> Result<(Response<Incoming>, Lease), Unanswered> {
        loop {
            let kept = self.pool.share();
            let is_kept = kept.is_some();
            let connection = match kept {
                Some(connection) => connection,
                None => match self.connect_shared().await {
                    Ok(connection) => connection,
                    Err(failure) => return Err(unsent(failure, request)),
                },
            };
            match watch.answer(connection.send(request)).await? {
                Ok(response) => return Ok((response, Lease::Shared { _connection: connection })),
                sent => request = again(sent, is_kept, watch)?,
            }
        }
    }

    /// A connection of its own, over HTTP/1.1.
    async fn connect(&self) -> Result<Connection, Failure> {
        let (socket, place) = self.open(false).await?;
        let connection = Connection::speak(socket, place).await;
        connection.map_err(|error| Failure::connect(&error))
    }

    async fn connect_shared(&self) -> Result<SharedConnection, Failure> {
        let _turn = self.connecting.acquire().await.expect("the semaphore is never closed");
        if let Some(connection) = self.pool.share() {
            return Ok(connection);
        }
        let (socket, place) = self.open(true).await?;
        let connection = SharedConnection::speak(socket, place).await;
        let connection = connection.map_err(|error| Failure::connect(&error))?;
        self.pool.add(&connection);
        Ok(connection)
    }

    async fn open(&self, wants_http2: bool) -> Result<(Socket, Place), Failure> {
        let place = self.facts.admit(self.max_connections).ok_or(Failure::MaxConnections)?;
        let socket = timeout(self.connect_timeout, self.connector.connect(wants_http2)).await;
        let socket = socket.map_err(|_elapsed| Failure::ConnectTimeout)?;
        Ok((socket.map_err(|error| Failure::connect(&error))?, place))
    }
}

/// The request, to be sent on another connection, where nothing of it went out on a kept one.
fn again(sent: Sent, is_kept: bool, watch: &Watch) -> Result<Request<Upload>, Unanswered> {
    let Err(mut error) = sent else { unreachable!("an answer is no reason to ask again") };
    if let Some(failure) = watch.failure() {
        return Err(failure.into());
    }
    match error.take_message() {
        Some(request) if is_kept => Ok(request),
        Some(request) => Err(unsent(Failure::exchange(error.error()), request)),
        None => Err(Failure::exchange(error.error()).into()),
    }
}

fn unsent(failure: Failure, request: Request<Upload>) -> Unanswered {
    Unanswered { failure, unsent: Some(Box::new(request)) }
}
