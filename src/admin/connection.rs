//! A connection of the admin listener: its requests, its live streams, and its end.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::body::{AdminResponseBody, LiveActivity};
use super::live::{self, LiveStatus};
use super::{Admin, foreign, not_found};
use crate::auth::{AuthRequest, origin};

/// A connection is closed after this time.
const MAX_AGE: Duration = Duration::from_secs(60);
/// A live stream is closed after this long without a successful write. There is always something to write: a report
/// each second, or the keep-alive comments of the followed channel.
const MAX_STALL: Duration = Duration::from_secs(120);
const STALL_CHECK: Duration = Duration::from_secs(15);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The admin listener as its connections see it.
pub(super) struct AdminServer {
    admin: Admin,
    live: LiveStatus,
}

impl AdminServer {
    pub(super) fn new(admin: Admin) -> Self {
        let live = LiveStatus::new(&admin.status, (&admin.health, &admin.metrics), &admin.urls);
        Self { admin, live }
    }

    /// Serves a connection until it ends or is too old.
    pub(super) async fn serve_connection(self: Rc<Self>, stream: TcpStream) {
        let activity = LiveActivity::default();
        let of_requests = activity.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (server, activity) = (Rc::clone(&self), of_requests.clone());
            async move { Ok::<_, Infallible>(server.handle(request, &activity).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "admin connection failed");
            },
            () = too_old(&activity) => {}
        }
    }

    async fn handle(
        &self,
        request: Request<hyper::body::Incoming>,
        activity: &LiveActivity,
    ) -> Response<AdminResponseBody> {
        if request.uri().path().starts_with(live::PATH) {
            return self.watch(&request, activity).await;
        }
        self.admin.handle(request).await.map(AdminResponseBody::from)
    }

    /// Responds with a live stream.
    async fn watch<B>(
        &self,
        request: &Request<B>,
        activity: &LiveActivity,
    ) -> Response<AdminResponseBody> {
        let admitted = match self.admin.refusal(request) {
            Some(refused) => Err(refused),
            // A page of another site could not read the stream, but it would take the place of a viewer.
            None if origin::is_foreign_site(AuthRequest::new(request)) => Err(foreign()),
            None => self.admin.admitted(request).await,
        };
        match admitted {
            Ok(ends) => {
                let response = self.live.respond(request, ends, activity).await;
                response.unwrap_or_else(|| not_found().map(AdminResponseBody::from))
            }
            Err(refused) => refused.map(AdminResponseBody::from),
        }
    }
}

/// Waits until a connection is older than it may be. One with a live stream may be older, as long as its client
/// takes what is sent.
async fn too_old(activity: &LiveActivity) {
    tokio::time::sleep(MAX_AGE).await;
    while activity.is_live() && !activity.is_stalled(MAX_STALL) {
        tokio::time::sleep(STALL_CHECK).await;
    }
}
