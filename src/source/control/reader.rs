//! Acts upon the messages of the control channel.

use std::time::SystemTime;

use ssegate_auth::Refusal;
use ssegate_auth::revocation::{self, ControlKey};
use tokio::time::Instant;

use crate::auth::{RevocationOrigin, SharedAuth};
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;

/// Acts upon messages that are signed with the control key, and upon no others.
#[derive(Debug)]
pub(crate) struct ControlReader {
    auth: SharedAuth,
    key: ControlKey,
    metrics: Metrics,
    ignored: LogLimit,
}

impl ControlReader {
    pub(crate) fn new(auth: SharedAuth, key: ControlKey, metrics: Metrics) -> Self {
        Self { auth, key, metrics, ignored: LogLimit::new() }
    }

    /// Revokes what a message names, unless that is known. Returns once every shard has acted upon
    /// it.
    pub(crate) async fn act(&self, message: &[u8], origin: RevocationOrigin) {
        // `ssegate check --connect` sends an empty message to test whether publishing is allowed.
        if message.is_empty() {
            return;
        }
        let text = str::from_utf8(message).map_err(|_| Refusal::Malformed("it is not UTF-8"));
        match text.and_then(|text| revocation::read(text, &self.key, SystemTime::now())) {
            Ok(revocation) => {
                let nonce = revocation.nonce().to_owned();
                let is_new = self.auth.revoke(revocation, origin).await.is_some();
                match origin {
                    // Logged at debug level: every start reads all that are stored.
                    RevocationOrigin::Stored => tracing::debug!(is_new, nonce, "read a revocation"),
                    _ if is_new => tracing::info!(nonce, "revoked"),
                    _ => {}
                }
            }
            Err(refusal) => self.ignore(&refusal, origin),
        }
    }

    /// Counts a message that cannot be acted upon. Its text is not logged: anybody may have sent it.
    pub(crate) fn ignore(&self, refusal: &Refusal, origin: RevocationOrigin) {
        let reason = refusal.as_str();
        self.metrics.revocation_ignored(reason);
        if let Some(held_back) = self.ignored.pass(reason, Instant::now()) {
            tracing::warn!(
                reason,
                error = %refusal,
                from = origin.as_str(),
                held_back,
                "ignored a message on the control channel; revoke with `ssegate revoke` and the key of \
                 every gateway, and let nobody else publish there"
            );
        }
    }
}
