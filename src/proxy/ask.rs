//! Requests of the gateway's own, which no client has made.

use http::uri::Scheme;
use http::{Request, Response, StatusCode};

use super::error::Failure;
use super::message::{self, GatewayFields};
use super::upload::Upload;
use super::{Forwarded, Proxy, ProxyError, UpstreamBody};
use crate::server::request_body::RequestBody;

impl Proxy {
    /// Sends a request without a body, and returns the head of the response; its body streams. The request names no
    /// client: it has its own fields, this gateway's entry in `Via`, and the `Host` of the route.
    ///
    /// # Errors
    /// The backend cannot be reached, closes the connection before it responds, or sends a response that cannot be
    /// forwarded.
    pub async fn ask(&self, request: Request<()>) -> Result<Response<UpstreamBody>, ProxyError> {
        let settings = &self.0.settings;
        let scheme = settings.is_http2.then(|| match settings.upstreams[0].is_tls() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        });
        let interim = RequestBody::empty().interim().clone();
        let (upload, monitor) = Upload::new(None, None, interim, settings);
        let mut request = request.map(|()| upload);
        let nobody = GatewayFields { peer: None, fields: &[] };
        message::prepare_request(&mut request, settings, nobody, scheme);
        let (upstream, response, lease) = self.send(request, &monitor, settings.is_http2).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed(upstream, Failure::UnexpectedSwitch));
        }
        match self.respond(upstream, response, lease, None)? {
            Forwarded::Response(response) => Ok(response),
            Forwarded::Tunnel(..) => Err(self.failed(upstream, Failure::UnexpectedSwitch)),
        }
    }
}
