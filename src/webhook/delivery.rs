//! Sends webhooks, and retries after a failure.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::call::WebhookCall;
use super::queue::WebhookQueue;
use super::running::{DeliveryPanicked, RunningCalls};
use super::signature::{SIGNATURE, sign};
use crate::health::Health;
use crate::http_client::{HttpClient, HttpError};
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::tls_client::{self, Trust};

/// Calls on their way to the task, at most.
const MAX_HANDED_OVER: usize = 4096;

/// How long a server may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before each further attempt, on average. After the last one a call is given up.
const WAITS: [Duration; 6] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
];

/// Takes webhooks to send. A cheap handle, which never waits.
#[derive(Clone, Debug)]
pub(crate) struct Webhooks {
    calls: mpsc::Sender<WebhookCall>,
    given_up: Rc<GivenUp>,
}

/// The task that sends.
#[derive(Debug)]
pub(crate) struct WebhookSender {
    calls: mpsc::Receiver<WebhookCall>,
    given_up: Rc<GivenUp>,
    queue: WebhookQueue,
    attempts: Rc<WebhookAttempts>,
}

/// Sends a call until it succeeds or is given up, and records the result.
#[derive(Debug)]
struct WebhookAttempts {
    client: std::sync::Arc<HttpClient>,
    health: Health,
    metrics: Metrics,
    log: LogLimit,
}

/// Counts and logs what is given up.
#[derive(Debug)]
struct GivenUp {
    metrics: Metrics,
    log: LogLimit,
}

/// Why a call was not taken.
#[derive(Debug, thiserror::Error)]
enum WebhookError {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("no response within {RESPONSE_TIMEOUT:?}")]
    TimedOut,
    #[error("its status is {0}")]
    Status(StatusCode),
}

impl WebhookError {
    /// The word for it in `/readyz?verbose`.
    fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::TimedOut => "timeout",
            Self::Status(_) => "status",
        }
    }
}

impl Webhooks {
    /// The handle, and the task.
    pub(crate) fn new(health: Health, metrics: Metrics) -> (Self, WebhookSender) {
        let (sender, calls) = mpsc::channel(MAX_HANDED_OVER);
        let given_up = Rc::new(GivenUp { metrics: metrics.clone(), log: LogLimit::new() });
        let trust = || tls_client::client_config(Trust::SystemRootsAnd(Vec::new()));
        let client = HttpClient::new(trust, RESPONSE_TIMEOUT).into();
        let attempts = Rc::new(WebhookAttempts { client, health, metrics, log: LogLimit::new() });
        let queue = WebhookQueue::default();
        let handle = Self { calls: sender, given_up: Rc::clone(&given_up) };
        (handle, WebhookSender { calls, given_up, queue, attempts })
    }

    /// Queues a call, which is sent after those before it.
    pub(crate) fn queue(&self, call: WebhookCall) {
        if let Err(error) = self.calls.try_send(call) {
            self.given_up.note(&error.into_inner(), "too many wait");
        }
    }
}

impl WebhookSender {
    /// Sends for ever. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let mut running: RunningCalls<Result<(), WebhookError>> = RunningCalls::new();
        loop {
            let changed = tokio::select! {
                Some(call) = self.calls.recv() => {
                    let changed = std::sync::Arc::clone(&call.lane);
                    if let Some(call) = self.queue.push(call) {
                        self.given_up.note(&call, "too many wait");
                    }
                    changed
                }
                Some((call, result)) = running.next() => {
                    match result {
                        Ok(Ok(())) => self.attempts.metrics.webhook("delivered"),
                        Ok(Err(error)) => self.given_up.note(&call, &error.to_string()),
                        Err(DeliveryPanicked) => self.given_up.note(&call, "a panic (see above in the log)"),
                    }
                    self.queue.finish(&call);
                    std::sync::Arc::clone(&call.lane)
                }
                // All senders are gone: the gateway is shutting down.
                else => std::future::pending().await,
            };
            while let Some(call) = self.queue.start(&changed) {
                let attempts = Rc::clone(&self.attempts);
                running.start(call, |call| async move { attempts.deliver(&call).await });
            }
            self.attempts.metrics.webhooks_waiting(self.queue.waiting());
        }
    }
}

impl WebhookAttempts {
    /// Retries until the server accepts it, or the attempts are used up.
    async fn deliver(&self, call: &WebhookCall) -> Result<(), WebhookError> {
        for wait in WAITS {
            match self.attempt(call).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    if let Some(held_back) = self.log.pass("webhook", Instant::now()) {
                        let (url, event, channel) = (&call.webhook, call.event, &call.channel);
                        tracing::warn!(%url, ?event, %channel, %error, held_back, "a webhook failed; trying again");
                    }
                }
            }
            self.metrics.webhook("retried");
            // Between half and one and a half of it, so that the calls to a server that was away do not arrive all at
            // once.
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        }
        self.attempt(call).await
    }

    /// Makes one attempt.
    async fn attempt(&self, call: &WebhookCall) -> Result<(), WebhookError> {
        let result = attempt(&self.client, call).await;
        let about = format!("webhook {}", call.webhook);
        match &result {
            Ok(()) => {
                if self.health.works(&about) {
                    tracing::info!(url = %call.webhook, "webhooks are taken again");
                }
            }
            Err(error) => self.health.failed(&about, error.kind(), &error.to_string()),
        }
        result
    }
}

async fn attempt(
    client: &std::sync::Arc<HttpClient>,
    call: &WebhookCall,
) -> Result<(), WebhookError> {
    let exchange = async {
        if call.webhook.url.scheme_str() == Some("https") {
            // Loading the system's certificates blocks: not on this thread, on which events arrive.
            let client = std::sync::Arc::clone(client);
            let loading = tokio::task::spawn_blocking(move || client.load_trust());
            loading.await.unwrap_or_default();
        }
        let body = call.body();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let agent = concat!("ssegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(SIGNATURE, sign(&call.webhook.key, SystemTime::now(), &body));
        // Boxed, because the future of the handshake is large.
        let response = Box::pin(client.post(&call.webhook.url, headers, body.into())).await?;
        // The body is ignored.
        match response.http.status() {
            status if status.is_success() => Ok(()),
            status => Err(WebhookError::Status(status)),
        }
    };
    timeout(RESPONSE_TIMEOUT, exchange).await.unwrap_or(Err(WebhookError::TimedOut))
}

impl GivenUp {
    fn note(&self, call: &WebhookCall, error: &str) {
        self.metrics.webhook("given_up");
        if let Some(held_back) = self.log.pass("webhook", Instant::now()) {
            let (url, event, channel) = (&call.webhook, call.event, &call.channel);
            tracing::warn!(%url, ?event, %channel, error, held_back, "gave up a webhook");
        }
    }
}
