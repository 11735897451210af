//! One upstream of one shard: its address, its connection pools, and whether it is marked down.
//!
//! Gets a connection, sends the request, and retries as [`RetryPolicy`] decides. Does not know the
//! other upstreams of the route.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::backend_body::BackendBody;
use super::connect::Connector;
use super::error::Failure;
use super::http1_connection::Http1Connection;
use super::http1_pool::Http1Pool;
use super::http2_pool::{Http2Pool, Need};
use super::lease::Lease;
use super::recorder::Recorder;
use super::retry::{Attempts, Retry, RetryPolicy};
use super::send_error::SendError;
use super::upload::Upload;
use super::upload_monitor::UploadMonitor;
use crate::health::{BackendHealth, ResponseTimes};
use crate::route::{ProxySettings, UpstreamAddress};

/// An upstream of a route.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: UpstreamAddress,
    connector: Rc<Connector>,
    http1_pool: Http1Pool,
    http2_pool: Http2Pool,
    retry: RetryPolicy,
    retry_buffer: usize,
    down_until: Cell<Option<Instant>>,
    max_connections: usize,
    max_header: usize,
    connect_timeout: Duration,
    // `Some` if the route has `p99_warning`.
    response_times: Option<Arc<ResponseTimes>>,
    recorder: Recorder,
    pub(super) backend: Arc<BackendHealth>,
}

impl Upstream {
    pub(super) fn new(
        address: UpstreamAddress,
        settings: &ProxySettings,
        recorder: Recorder,
    ) -> Self {
        let connector = Rc::new(Connector::new(address.clone(), &settings.tls));
        let backend = recorder.backend(&address);
        if let Some(tls) = connector.tls(settings.is_http2) {
            backend.set_tls(tls);
        }
        let response_times =
            settings.p99_warning.map(|limit| recorder.response_times(&backend, limit));
        Self {
            backend,
            response_times,
            address,
            http1_pool: Http1Pool::new(settings.keep_alive),
            http2_pool: Http2Pool::new(Rc::clone(&connector), settings, recorder.clone()),
            connector,
            retry: RetryPolicy::new(settings, recorder.clone()),
            retry_buffer: settings.retry_buffer,
            down_until: Cell::new(None),
            max_connections: settings.max_connections,
            max_header: settings.max_response_header,
            connect_timeout: settings.connect_timeout,
            recorder,
        }
    }

    /// Whether it is not marked down.
    pub(super) fn is_up(&self) -> bool {
        self.down_until.get().is_none_or(|until| until <= Instant::now())
    }

    /// Marks it down for `fail_timeout`.
    pub(super) fn mark_down(&self, fail_timeout: Duration) {
        self.down_until.set(Some(Instant::now() + fail_timeout));
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// No response. Contains the request if another upstream may get it.
    pub(super) async fn send(
        &self,
        request: Request<Upload>,
        monitor: &Rc<UploadMonitor>,
        is_http2: bool,
    ) -> Result<(Response<BackendBody>, Lease), SendError> {
        let began = Instant::now();
        let wait = self.backend.wait(began);
        // Pinned once: a future that is moved into another one takes space in both.
        let sending = pin!(async {
            match is_http2 {
                true => self.send_http2(request, monitor).await,
                false => self.send_http1(request, monitor).await,
            }
        });
        let sent = match &self.response_times {
            Some(response_times) => timed(sending, response_times, began).await,
            None => sending.await,
        };
        if sent.is_ok() {
            self.down_until.set(None);
            wait.responded(Instant::now());
            self.recorder.responded(&self.backend, began.elapsed());
        }
        sent
    }

    /// Over HTTP/1.1. An idle connection may turn out to be closed: a request of which nothing was
    /// sent goes to another connection, an idempotent one to a new connection.
    async fn send_http1(
        &self,
        mut request: Request<Upload>,
        monitor: &Rc<UploadMonitor>,
    ) -> Result<(Response<BackendBody>, Lease), SendError> {
        let mut needs_new = false;
        loop {
            let idle = if needs_new { None } else { self.http1_pool.take() };
            let is_reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(connection) => connection,
                    Err(failure) => return Err(SendError::unsent(failure, request)),
                },
            };
            let copy = if is_reused { self.retry.copy(&request) } else { None };
            let sent = connection.send(request, monitor.interim());
            let error = match monitor.await_response(sent).await? {
                Ok(response) => {
                    let (pool, monitor) = (self.http1_pool.clone(), Rc::clone(monitor));
                    let lease = Lease::Http1 { connection, pool, monitor, keep_alive: None };
                    return Ok((response.map(BackendBody::Http1), lease));
                }
                Err(error) => error,
            };
            if let Some(failure) = monitor.failure() {
                return Err(failure.into());
            }
            Retry { request, needs_new } = self.retry.after_http1(error, is_reused, copy)?;
        }
    }

    /// Over HTTP/2. The connection may close while the request is sent, or the backend may refuse
    /// the stream; both may lead to a retry.
    async fn send_http2(
        &self,
        mut request: Request<Upload>,
        monitor: &Rc<UploadMonitor>,
    ) -> Result<(Response<BackendBody>, Lease), SendError> {
        request.body_mut().start_buffering(self.retry_buffer);
        let mut attempts = Attempts::default();
        let mut newer_than = 0;
        loop {
            let upload = request.body();
            let upload = (!upload.is_end_stream()).then(|| upload.size_hint().exact());
            let connection = match self.http2_pool.connection(Need { upload, newer_than }).await {
                Ok(connection) => connection,
                Err(failure) => return Err(SendError::unsent(failure, request)),
            };
            let is_first = connection.opened_streams() == 0;
            let arrivals = connection.arrivals();
            let sent = connection.send(request).with_interim(monitor.interim());
            let sent = monitor
                .await_response(sent)
                .await
                .inspect_err(|_| connection.request_timed_out(arrivals));
            match sent? {
                Ok(response) => {
                    let lease = Lease::Http2 { _connection: connection };
                    return Ok((response.map(BackendBody::Http2), lease));
                }
                Err(lost) => {
                    if let Some(failure) = monitor.failure() {
                        return Err(failure.into());
                    }
                    let retry = self.retry.after_http2(*lost, is_first, &mut attempts)?;
                    request = retry.request;
                    newer_than =
                        if retry.needs_new { self.http2_pool.newest() } else { newer_than };
                }
            }
        }
    }

    /// Opens an HTTP/1.1 connection.
    async fn connect(&self) -> Result<Http1Connection, Failure> {
        let slot =
            self.recorder.acquire_slot(self.max_connections).ok_or(Failure::MaxConnections)?;
        let deadline = Instant::now() + self.connect_timeout;
        let socket = self.connector.connect(false, deadline).await?;
        let connection = Http1Connection::handshake(socket, slot, self.max_header).await;
        connection.map_err(|error| Failure::connect(&error))
    }
}

/// Waits for a response, and counts it as slow as soon as it exceeds the limit, not only when it
/// arrives.
async fn timed<T, E>(
    mut sending: Pin<&mut impl Future<Output = Result<T, E>>>,
    response_times: &ResponseTimes,
    began: Instant,
) -> Result<T, E> {
    let sent = match timeout_at(began + response_times.limit(), sending.as_mut()).await {
        Ok(sent) => sent,
        Err(_elapsed) => {
            response_times.record_slow();
            sending.await
        }
    };
    sent.inspect(|_| response_times.record_response())
}
