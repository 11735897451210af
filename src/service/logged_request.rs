//! Where a request gets its lines in the access log: as it begins, and as its response is handed over.

use http::{Method, Request, Response};
use http_body::Body as _;

use super::Service;
use super::body::ResponseBody;
use super::contained::ContainedBody;
use super::request_info::RequestInfo;
use super::request_log::RequestLog;
use super::response_end::remove_body;
use crate::server::connection::ConnectionState;

impl Service {
    /// What the access log is told about a request; `None` if it is not logged.
    pub(super) fn log_request<B>(
        &self,
        request: &Request<B>,
        connection: &ConnectionState,
    ) -> Option<Box<RequestLog>> {
        self.0.access.begins().then(|| {
            let client = self.0.requests.borrow().client_of(request, connection);
            let routes = self.routes();
            let secrets = routes.router().secret_parameters();
            RequestLog::new(&self.0.access, request, client, secrets)
        })
    }

    /// The body of a response as a connection takes it, with what the access log is told about the request.
    pub(super) fn finish(
        &self,
        mut response: Response<ResponseBody>,
        info: &RequestInfo,
    ) -> Response<ContainedBody<ResponseBody>> {
        let is_head = info.method == Method::HEAD;
        if is_head {
            remove_body(&mut response);
        }
        let status = response.status().as_u16();
        let log = info.take_log();
        let mut log = log.and_then(|log| response.body_mut().log_in(log, status));
        if let Some(log) = &mut log {
            log.note_response(status, is_head || response.body().is_end_stream());
        }
        let mut response = response.map(|body| ContainedBody::new(body, self.clone()));
        response.body_mut().log_in(log);
        response
    }
}
