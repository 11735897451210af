//! `/log`: the level of the log and the mode of the access log, which PUT changes until the next reload.

use std::time::Duration;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{text, with_type};
use crate::log::{AccessLog, AccessMode, LevelControl, LogLevel};

/// How long the body of a request may take, and how long it may be.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 1 << 10;

/// The word for the level that gateway.yaml or the environment has.
const CONFIGURED: &str = "configured";

const EXPECTED: &str = "400 Bad Request: send a level (error, warn, info, debug, trace or configured), or JSON such \
                        as {\"level\": \"debug\"} or {\"access\": \"1%\"}\n";

/// What the admin listener needs to show and change the log.
#[derive(Clone, Debug)]
pub struct AdminLog {
    level: LevelControl,
    access: AccessLog,
}

/// What a request changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct LogChange {
    // `Some(None)`: the configured one.
    level: Option<Option<LogLevel>>,
    access: Option<AccessMode>,
}

impl AdminLog {
    /// The log of this process.
    pub fn new(level: LevelControl, access: AccessLog) -> Self {
        Self { level, access }
    }

    /// Responds to a request whose `Host` and `Origin` are allowed, and whose credential is accepted. `may_change`:
    /// whether those who reach the listener may change the log.
    pub(super) async fn respond(
        &self,
        may_change: bool,
        request: Request<hyper::body::Incoming>,
    ) -> Response<Full<Bytes>> {
        match *request.method() {
            Method::GET | Method::HEAD => self.show(),
            Method::PUT if !may_change => {
                const ERROR: &str = "403 Forbidden: the admin listener changes the log only if admin.address in \
                                     gateway.yaml is on loopback, or with admin.auth\n";
                text(StatusCode::FORBIDDEN, ERROR)
            }
            Method::PUT => {
                let body = Limited::new(request.into_body(), MAX_BODY).collect();
                let change = match timeout(BODY_TIMEOUT, body).await {
                    Ok(Ok(body)) => LogChange::read(&body.to_bytes()),
                    // Too long, broken off, or too slow.
                    Ok(Err(_)) | Err(_) => None,
                };
                match change {
                    Some(change) => self.change(&change),
                    None => text(StatusCode::BAD_REQUEST, EXPECTED),
                }
            }
            _ => {
                const ERROR: &str = "405 Method Not Allowed: use GET or PUT\n";
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, ERROR);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
                response
            }
        }
    }

    fn change(&self, change: &LogChange) -> Response<Full<Bytes>> {
        // The change itself is logged at `info`: before the level hides it, or after the level shows it again.
        let hides_this = matches!(change.level, Some(Some(LogLevel::Error | LogLevel::Warn)));
        if hides_this {
            change.log();
        }
        if let Some(level) = change.level {
            self.level.set(level);
        }
        if let Some(mode) = change.access {
            self.access.set_mode(mode);
        }
        if !hides_this {
            change.log();
        }
        self.show()
    }

    fn show(&self) -> Response<Full<Bytes>> {
        let (level, configured) = (self.level.current(), self.level.configured());
        let access = self.access.mode().to_string();
        let shown = json!({ "level": level, CONFIGURED: configured, "access": access });
        with_type(StatusCode::OK, "application/json", format!("{shown}\n"))
    }
}

impl LogChange {
    fn log(&self) {
        let level = self.level.map(|level| level.map_or(CONFIGURED, LogLevel::as_str));
        let access = self.access.map(|mode| mode.to_string());
        tracing::info!(level, access, "the log was changed on the admin listener");
    }

    /// Reads a level, or an object with `level`, `access` or both. `None` for anything else: a misspelt key must not
    /// be ignored.
    fn read(body: &[u8]) -> Option<Self> {
        let body = str::from_utf8(body).ok()?.trim();
        if !body.starts_with('{') {
            return Some(Self { level: Some(level(body)?), access: None });
        }
        let members: Map<String, Value> = serde_json::from_str(body).ok()?;
        let mut change = Self::default();
        for (key, value) in &members {
            match (&**key, value) {
                ("level", Value::String(word)) => change.level = Some(level(word)?),
                ("access", Value::String(text)) => change.access = Some(AccessMode::parse(text)?),
                _ => return None,
            }
        }
        Some(change).filter(|_| !members.is_empty())
    }
}

fn level(word: &str) -> Option<Option<LogLevel>> {
    if word == CONFIGURED { Some(None) } else { LogLevel::parse(word).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::LogChange;
    use crate::log::{AccessMode, LogLevel};

    #[test]
    fn a_body_is_a_level_or_an_object() {
        let level = |level| Some(LogChange { level: Some(level), access: None });
        for (body, change) in [
            ("debug", level(Some(LogLevel::Debug))),
            (" trace\n", level(Some(LogLevel::Trace))),
            ("configured", level(None)),
            (r#"{"level":"error"}"#, level(Some(LogLevel::Error))),
            (r#"{"level":"configured"}"#, level(None)),
            (
                r#"{"access":"1%"}"#,
                Some(LogChange { level: None, access: Some(AccessMode::Share(10_000)) }),
            ),
            (
                r#"{"level":"warn","access":"off"}"#,
                Some(LogChange {
                    level: Some(Some(LogLevel::Warn)),
                    access: Some(AccessMode::Off),
                }),
            ),
            ("", None),
            ("loud", None),
            ("{}", None),
            (r#"{"level":"loud"}"#, None),
            (r#"{"level":null}"#, None),
            (r#"{"levle":"debug"}"#, None),
            (r#"{"level":"debug","acces":"all"}"#, None),
            (r#"["debug"]"#, None),
        ] {
            assert_eq!(LogChange::read(body.as_bytes()), change, "{body}");
        }
    }
}
