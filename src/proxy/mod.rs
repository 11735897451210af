//! Everything that is not ours goes to a backend, and its answer comes back as it comes.
//!
//! [`Proxy`] forwards the requests of one route: it writes their [`headers`] anew and sends them to
//! an [`upstream`], which keeps connections in a [`pool`]. A [`connection`] carries one request at a
//! time over a socket that [`connect`] opens. Bodies stream both ways, [`upload`] and [`body`], and
//! are never collected; a [`pause`] between two pieces has an end. A client that leaves takes its
//! request to the backend with it: the future or the body is dropped, and the connection closed.

mod body;
mod connect;
mod connection;
mod error;
mod headers;
mod pause;
mod pool;
mod upload;
mod upstream;

use std::rc::Rc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};

pub use self::body::UpstreamBody;
use self::error::Failure;
pub use self::error::ProxyError;
use self::pause::Pause;
use self::upload::Upload;
use self::upstream::Upstream;
use crate::route::ProxySettings;
use crate::server::connection::ConnectionState;
use crate::server::request_body::RequestBody;

/// Forwards the requests of one route, with kept connections for the shard that owns it: a cheap
/// handle.
#[derive(Clone, Debug)]
pub struct Proxy(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: ProxySettings,
    upstream: Upstream,
}

impl Proxy {
    /// A proxy without connections yet.
    pub fn new(settings: &ProxySettings) -> Self {
        let address = settings.upstreams.first().expect("the configuration wants one at least");
        let upstream = Upstream::new(address.clone(), settings);
        Self(Rc::new(Inner { settings: settings.clone(), upstream }))
    }

    /// What it was made of.
    pub fn settings(&self) -> &ProxySettings {
        &self.0.settings
    }

    /// An event stream of the backend's that was quiet for so long gets a comment.
    pub fn stream_keep_alive(&self) -> Option<Duration> {
        self.0.settings.stream_keep_alive
    }

    /// Sends the request on, and answers with the head of the response; its body streams.
    ///
    /// # Errors
    /// The backend cannot be reached, ends before it answers, or answers what cannot be passed on.
    pub async fn forward(
        &self,
        mut request: Request<RequestBody>,
        connection: &Rc<ConnectionState>,
    ) -> Result<Response<UpstreamBody>, ProxyError> {
        let Inner { settings, upstream } = &*self.0;
        headers::forward_request(&mut request, connection);
        *request.uri_mut() = origin_form(request.uri());
        *request.version_mut() = Version::HTTP_11;
        let failed = |failure| ProxyError::new(&upstream.address, failure);
        let sent = upstream.send(request.map(Upload::new), settings).await;
        let (mut response, lease) = sent.map_err(failed)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(failed(Failure::UnaskedSwitch));
        }
        // Of the backend's connection; what is spoken on the client's is another matter.
        *response.version_mut() = Version::HTTP_11;
        headers::forward_response(response.headers_mut());
        let pause = Pause::new(settings.idle_timeout);
        Ok(response.map(|incoming| UpstreamBody::new(incoming, pause, lease)))
    }
}

/// The bytes of the path go on as they came (RFC 9112, section 3.2.1).
fn origin_form(asked: &Uri) -> Uri {
    let path = asked.path_and_query().cloned();
    Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
}
