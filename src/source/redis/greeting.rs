//! How a connection to Redis begins, and in which protocol it goes on.
//!
//! With `HELLO 3`, which is RESP3. What does not know that (Redis before 6, one whose operator has
//! renamed the command, proxies in front of it) is spoken to in RESP2: a message is an array there,
//! where RESP3 has a push, and a map is an array too.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::ConnectionInfo;

use super::connection::{Connection, Purpose};
use super::error::{SourceError, SourceErrorKind};
use crate::source::resp::Value;

/// What both ends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// <https://redis.io/docs/latest/develop/reference/protocol-spec/>, before `HELLO 3`.
    Resp2,
    /// After it.
    Resp3,
}

/// What Redis calls a connection whose name it does not tell.
pub(super) const NO_ID: i64 = 0;

/// It was told that RESP2 is spoken: once, as each connection finds out anew.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

impl Connection {
    /// `HELLO 3` with user, password and name (<https://redis.io/docs/latest/commands/hello/>); where
    /// it is refused for what it is, the words that came before it.
    pub(super) async fn greet(
        &mut self,
        info: &ConnectionInfo,
        purpose: Purpose,
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
            Ok(_) => Err(SourceError::Unexpected("to HELLO".into())),
            Err(error) if is_for_want_of_hello(&error) => {
                self.greet_without_hello(info, purpose, &error).await
            }
            Err(error) => Err(error),
        }
    }

    /// `AUTH`, and what else is known: what is not does no harm. `why` is what `HELLO` came to.
    pub(super) async fn greet_without_hello(
        &mut self,
        info: &ConnectionInfo,
        purpose: Purpose,
        why: &SourceError,
    ) -> Result<(), SourceError> {
        self.protocol = Protocol::Resp2;
        let settings = info.redis_settings();
        if let Some(password) = settings.password() {
            let arguments: Vec<&str> = settings.username().into_iter().chain([password]).collect();
            self.ask("AUTH", arguments.into_iter()).await?;
        }
        // Whoever may not, or not yet, speak to it is told so here.
        self.ask("PING", [].into_iter()).await?;
        self.ask_if_known(["SETNAME", "ssegate"].into_iter()).await?;
        if purpose == Purpose::Ask
            && let Some(Value::Integer(id)) = self.ask_if_known(["ID"].into_iter()).await?
        {
            self.id = id;
        }
        if !IS_TOLD.swap(true, Ordering::Relaxed) {
            tracing::info!(address = %info.addr(), %why, "Redis does not know HELLO: RESP2 is spoken");
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

    /// What it says in its protocol, as RESP3 would say it to one who listens.
    pub(super) fn as_pushed(&self, value: Value) -> Value {
        let Value::Array(parts) = value else { return value };
        if self.protocol == Protocol::Resp3 || self.purpose != Purpose::Listen {
            return Value::Array(parts);
        }
        match parts.first() {
            // The answer to a PING, where something is subscribed to.
            Some(Value::Bulk(kind)) if kind == "pong" => Value::Simple(kind.clone()),
            _ => Value::Push(parts),
        }
    }
}

/// Whether this is no more than that `HELLO` is not known.
fn is_for_want_of_hello(error: &SourceError) -> bool {
    match error.kind() {
        SourceErrorKind::Refused | SourceErrorKind::Permission | SourceErrorKind::Protocol => {
            matches!(error, SourceError::Refused(_))
        }
        _ => false,
    }
}
