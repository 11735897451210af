//! `POST /reload`: reads the configuration again, and returns the result.
//!
//! | status | JSON |
//! |---|---|
//! | 200 | the new configuration is in use: `file`, `restart` (keys that hold only after a restart), `warnings` |
//! | 409 | another file is meant than the one that this gateway reads: `file` |
//! | 422 | the configuration has mistakes, or its file cannot be read, and the old one stays in use: `errors` |
//! | 503 | reading takes too long, or has failed, and the old one stays in use: `error` |
//! | 503 | as text: the gateway is stopping |
//!
//! With `?file=PATH` it is reloaded only if the gateway reads that file, so that nobody reloads another gateway
//! than the one that is meant. Paths are compared after symbolic links are followed.

use std::path::Path;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{text, with_type};
use crate::query;

/// What the admin listener needs to reload.
#[derive(Clone, Debug)]
pub struct Reloading {
    requests: mpsc::Sender<ReloadRequest>,
}

/// A request to reload, and where its result goes.
#[derive(Debug)]
pub struct ReloadRequest {
    /// The file that is meant; `None`: whichever the gateway reads.
    pub file: Option<String>,
    /// Where the result goes.
    pub reply: oneshot::Sender<ReloadReply>,
}

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadReply {
    /// The new configuration is in use.
    Done {
        /// The file that was read; `None`: standard input.
        file: Option<String>,
        /// Keys that have changed, but take effect only after a restart.
        restart: Vec<&'static str>,
        /// What `ssegate check` warns of.
        warnings: Vec<String>,
    },
    /// The gateway reads this file, and not the one that was requested. `None`: it has read standard input.
    OtherFile(Option<String>),
    /// What is wrong with the configuration, one mistake each; that its file cannot be read is one. The old one stays
    /// in use.
    Wrong(Vec<String>),
    /// Why it is not known what is wrong: reading takes too long, or has failed. The old one stays in use.
    Unreadable(String),
}

impl ReloadRequest {
    /// Whether the request is for the gateway that reads `file`; `None`: one that has read standard input.
    pub fn means(&self, file: Option<&Path>) -> bool {
        self.file.as_deref().is_none_or(|wanted| file.is_some_and(|file| file == Path::new(wanted)))
    }
}

impl Reloading {
    /// The handle, and the receiver of its requests.
    pub fn new() -> (Self, mpsc::Receiver<ReloadRequest>) {
        // One is read at a time; the others wait with their connections, which are bounded.
        let (requests, receiver) = mpsc::channel(1);
        (Self { requests }, receiver)
    }

    async fn reload(&self, file: Option<String>) -> Option<ReloadReply> {
        let (reply, replied) = oneshot::channel();
        self.requests.send(ReloadRequest { file, reply }).await.ok()?;
        replied.await.ok()
    }
}

/// Responds to a request for `/reload`, whose `Host` and `Origin` are allowed, and whose credential is accepted.
/// `may_reload`: whether clients of this listener may reload.
pub(super) async fn respond<B>(
    reloading: Option<&Reloading>,
    may_reload: bool,
    request: Request<B>,
) -> Response<Full<Bytes>> {
    if *request.method() != Method::POST {
        let mut response =
            text(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed: use POST\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(reloading) = reloading else {
        const ERROR: &str = "404 Not Found: this gateway runs without a file of configuration\n";
        return text(StatusCode::NOT_FOUND, ERROR);
    };
    if !may_reload {
        const ERROR: &str = "403 Forbidden: the admin listener reloads only if admin.address in gateway.yaml is on \
                             loopback, or with admin.auth\n";
        return text(StatusCode::FORBIDDEN, ERROR);
    }
    let pairs = query::parse(request.uri().query().unwrap_or_default()).into_iter();
    let file = pairs.filter(|(key, _)| key == "file").map(|(_, value)| value).next();
    match reloading.reload(file).await {
        Some(reply) => {
            let (status, value) = reply.response();
            with_type(status, "application/json", format!("{value}\n"))
        }
        None => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 Service Unavailable: the gateway is stopping\n",
        ),
    }
}

impl ReloadReply {
    fn response(&self) -> (StatusCode, Value) {
        match self {
            Self::Done { file, restart, warnings } => {
                (StatusCode::OK, json!({"file": file, "restart": restart, "warnings": warnings}))
            }
            Self::OtherFile(file) => (StatusCode::CONFLICT, json!({"file": file})),
            Self::Wrong(errors) => (StatusCode::UNPROCESSABLE_ENTITY, json!({"errors": errors})),
            Self::Unreadable(error) => (StatusCode::SERVICE_UNAVAILABLE, json!({"error": error})),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::{Request, StatusCode};
    use tokio::sync::oneshot;

    use super::{ReloadReply, ReloadRequest, Reloading, respond};

    #[test]
    fn a_request_means_the_gateway_that_reads_its_file() {
        let means = |wanted: Option<&str>, read: Option<&str>| {
            let (reply, _) = oneshot::channel();
            let request = ReloadRequest { file: wanted.map(str::to_owned), reply };
            request.means(read.map(Path::new))
        };
        for (wanted, read, expected) in [
            (None, Some("/etc/a.yaml"), true),
            (None, None, true),
            (Some("/etc/a.yaml"), Some("/etc/a.yaml"), true),
            (Some("/etc/a.yaml"), Some("/etc/b.yaml"), false),
            (Some("/etc/a.yaml"), None, false),
            (Some(""), Some("/etc/a.yaml"), false),
        ] {
            assert_eq!(means(wanted, read), expected, "{wanted:?} {read:?}");
        }
    }

    #[tokio::test]
    async fn each_end_has_its_status() {
        let request = |method: &str| {
            Request::builder().method(method).uri("/reload?file=%2Fa+b").body(()).expect("valid")
        };
        let (private, mut requests) = Reloading::new();
        for (reply, status) in [
            (ReloadReply::Wrong(vec!["a".into()]), StatusCode::UNPROCESSABLE_ENTITY),
            (ReloadReply::OtherFile(None), StatusCode::CONFLICT),
            (ReloadReply::Unreadable("slow".into()), StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let responding = respond(Some(&private), true, request("POST"));
            let (response, ()) = tokio::join!(responding, async {
                let asked = requests.recv().await.expect("a request");
                assert_eq!(asked.file.as_deref(), Some("/a b"));
                asked.reply.send(reply).expect("it is awaited");
            });
            assert_eq!(response.status(), status);
        }
        assert_eq!(respond(Some(&private), true, request("GET")).await.status(), 405);
        assert_eq!(respond(None, true, request("POST")).await.status(), 404);
        drop(requests);
        assert_eq!(respond(Some(&private), true, request("POST")).await.status(), 503, "it stops");
        let (public, _requests) = Reloading::new();
        assert_eq!(respond(Some(&public), false, request("POST")).await.status(), 403);
    }
}
