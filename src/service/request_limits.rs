//! The limits of requests: their length, and how many each client may make.

use std::rc::Rc;

use http::Request;
use ssegate_hub::Topic;
use tokio::time::Instant;

use super::Service;
use super::rejection::Rejection;
use crate::route::ServerChoice;
use crate::server::connection::ConnectionState;

impl Service {
    /// Checks the limits of the request.
    pub(super) fn limit<B>(
        &self,
        request: &Request<B>,
        connection: &ConnectionState,
    ) -> Result<(), Rejection> {
        let settings = Rc::clone(&self.0.requests.borrow());
        let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        if length > settings.max_uri_bytes {
            return Err(Rejection::Uri(settings.max_uri_bytes));
        }
        if settings.per_client.requests.is_none() {
            return Ok(());
        }
        let client = settings.client_of(request, connection);
        let may = self.0.clients.admit_request(client, &settings.per_client, Instant::now());
        if may { Ok(()) } else { Err(Rejection::Rate) }
    }

    /// Checks the client's rate of new channels.
    pub(super) fn limit_channels<B>(
        &self,
        (server, topics): (&ServerChoice, &[Topic]),
        request: &Request<B>,
        connection: &ConnectionState,
    ) -> Result<(), Rejection> {
        let settings = Rc::clone(&self.0.requests.borrow());
        if settings.per_client.new_channels.is_none() {
            return Ok(());
        }
        let client = settings.client_of(request, connection);
        let new = self.shards().unfollowed(server, topics);
        let may = self.0.clients.admit_channels(client, new, &settings.per_client, Instant::now());
        if may { Ok(()) } else { Err(Rejection::NewChannels) }
    }
}
