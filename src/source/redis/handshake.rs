//! The handshake of a connection to Redis, and the protocol version that it selects.
//!
//! `HELLO 3` selects RESP3. Where it is not available (Redis before 6, a renamed command, some
//! proxies), the connection uses RESP2, in which push messages and maps are arrays.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::ConnectionInfo;

use super::connection::{ConnectionKind, RedisConnection};
use super::error::{SourceError, SourceErrorKind};
use crate::source::resp::Value;

/// The RESP version of a connection
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// (<https://redis.io/docs/latest/develop/reference/protocol-spec/>): the default.
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// The id of a connection for which Redis does not report one.
pub(super) const NO_ID: i64 = 0;

/// Whether the fallback to RESP2 was logged: once per process, because each connection falls back.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

impl RedisConnection {
    /// Sends `HELLO 3` with user, password and client name
    /// (<https://redis.io/docs/latest/commands/hello/>). Falls back to RESP2 if Redis does not
    /// support `HELLO`.
    pub(super) async fn greet(
        &mut self,
        info: &ConnectionInfo,
        kind: ConnectionKind,
    ) -> Result<(), SourceError> {
        let settings = info.redis_settings();
        let mut arguments = vec!["3"];
        if let Some(password) = settings.password() {
            arguments.extend(["AUTH", settings.username().unwrap_or("default"), password]);
        }
        arguments.extend(["SETNAME", "ssegate"]);
        match self.ask("HELLO", arguments.into_iter()).await {
            Ok(Value::Map(server)) => {
                let id = |key: &Value| key.as_bytes().is_some_and(|key| key == "id");
                if let Some((_, Value::Integer(id))) = server.iter().find(|(key, _)| id(key)) {
                    self.id = *id;
                }
                Ok(())
            }
            Ok(_) => Err(SourceError::Unexpected("HELLO did not return a map".into())),
            Err(error) if is_for_want_of_hello(&error) => {
                self.greet_without_hello(info, kind, &error).await
            }
            Err(error) => Err(error),
        }
    }

    /// Performs the handshake in RESP2: `AUTH`, then commands that may fail. `why` is the error of
    /// `HELLO`.
    pub(super) async fn greet_without_hello(
        &mut self,
        info: &ConnectionInfo,
        kind: ConnectionKind,
        why: &SourceError,
    ) -> Result<(), SourceError> {
        self.protocol = Protocol::Resp2;
        let settings = info.redis_settings();
        if let Some(password) = settings.password() {
            let arguments: Vec<&str> = settings.username().into_iter().chain([password]).collect();
            self.ask("AUTH", arguments.into_iter()).await?;
        }
        // Fails if authentication is missing (`NOAUTH`) or the server is not ready.
        self.ask("PING", [].into_iter()).await?;
        self.ask_if_known(["SETNAME", "ssegate"].into_iter()).await?;
        if kind == ConnectionKind::Command
            && let Some(Value::Integer(id)) = self.ask_if_known(["ID"].into_iter()).await?
        {
            self.id = id;
        }
        if !IS_TOLD.swap(true, Ordering::Relaxed) {
            tracing::info!(address = %info.addr(), %why, "Redis does not support HELLO; using RESP2");
        }
        Ok(())
    }

    async fn ask_if_known(
        &mut self,
        arguments: impl ExactSizeIterator<Item = &'static str>,
    ) -> Result<Option<Value>, SourceError> {
        match self.ask("CLIENT", arguments).await {
            Ok(answer) => Ok(Some(answer)),
            Err(SourceError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Converts a RESP2 array on a pub/sub connection to the push message that RESP3 would send.
    pub(super) fn as_pushed(&self, value: Value) -> Value {
        let Value::Array(parts) = value else { return value };
        if self.protocol == Protocol::Resp3 || self.kind != ConnectionKind::PubSub {
            return Value::Array(parts);
        }
        match parts.first() {
            // The reply to PING while subscribed (RESP2 only).
            Some(Value::Bulk(kind)) if kind == "pong" => Value::Simple(kind.clone()),
            _ => Value::Push(parts),
        }
    }
}

/// Whether the error means that `HELLO` is not available, and nothing else.
fn is_for_want_of_hello(error: &SourceError) -> bool {
    match error.kind() {
        SourceErrorKind::Refused | SourceErrorKind::Permission | SourceErrorKind::Protocol => {
            matches!(error, SourceError::Refused(_))
        }
        _ => false,
    }
}
