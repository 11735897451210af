//! Everything that is not ours goes to a backend, and its answer comes back as it comes.
//!
//! Bodies stream both ways and are never collected. A client that leaves takes its request to the
//! backend with it: the future is dropped, and the connection closed.

mod headers;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::route::ProxySettings;
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;

/// A kept connection to a backend is closed when it was not used for so long.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Connections to a backend that one shard keeps while nobody needs them.
const MAX_IDLE: usize = 64;

/// Why a backend did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{upstream}: {cause}")]
pub struct ProxyError {
    upstream: Authority,
    // What failed, down to the first cause.
    cause: String,
    is_timeout: bool,
}

impl ProxyError {
    fn new(upstream: Authority, error: &(dyn std::error::Error + 'static)) -> Self {
        let chain = || std::iter::successors(Some(error), |error| error.source());
        let is_timeout = chain()
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::TimedOut);
        let cause = chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self { upstream, cause, is_timeout }
    }

    fn unasked_switch(upstream: Authority) -> Self {
        let cause = "it switches to a protocol that nobody asked for".into();
        Self { upstream, cause, is_timeout: false }
    }

    /// Whether the backend might have answered, had there been more time.
    pub fn is_timeout(&self) -> bool {
        self.is_timeout
    }
}

/// Forwards the requests of one route, with a pool of kept connections for the shard that owns it.
#[derive(Clone)]
pub struct Proxy {
    upstream: Authority,
    client: Client<HttpConnector, RequestBody>,
}

impl Proxy {
    /// A proxy without connections yet.
    pub fn new(settings: &ProxySettings) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.connect_timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { upstream: authority(&settings.upstream), client }
    }

    /// Sends the request on, and answers with the head of the response; its body streams.
    ///
    /// # Errors
    /// The backend cannot be reached, ends before it answers, or answers what cannot be passed on.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        connection: &Rc<ConnectionState>,
    ) -> Result<Response<Incoming>, ProxyError> {
        headers::forward_request(&mut request, connection);
        *request.uri_mut() = upstream_uri(&self.upstream, request.uri());
        *request.version_mut() = Version::HTTP_11;
        let mut response = self
            .client
            .request(request)
            .await
            .map_err(|error| ProxyError::new(self.upstream.clone(), &error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ProxyError::unasked_switch(self.upstream.clone()));
        }
        // Of the backend's connection; what is spoken on the client's is another matter.
        *response.version_mut() = Version::HTTP_11;
        headers::forward_response(response.headers_mut());
        Ok(response)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

fn authority(upstream: &Uri) -> Authority {
    upstream.authority().cloned().unwrap_or_else(|| Authority::from_static("localhost"))
}

/// The bytes of the path go on as they came.
fn upstream_uri(upstream: &Authority, asked: &Uri) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream.clone());
    parts.path_and_query =
        Some(asked.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).expect("scheme, authority and path make a URI")
}
