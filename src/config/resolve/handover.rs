//! Resolves `handover`: streams that the backend of a route hands over. No message contains a part of
//! the key.

use ssegate_strict_yaml::{At, Field};

use super::resolver::Resolver;
use super::secret;
use crate::config::file::HandoverFile;
use crate::config::stream_options::StreamOptions;
use crate::route::HandoverSettings;

/// The default `iss` claim of `Grip-Sig`.
const ISSUER: &str = "ssegate";

impl Resolver<'_> {
    /// Returns `None` where the route has no `handover`, or after a mistake.
    pub(super) fn handover(
        &self,
        field: Field<HandoverFile>,
        is_proxied: bool,
        defaults: &StreamOptions,
    ) -> Option<HandoverSettings> {
        let At { location, value: file } = field.written()?;
        if !is_proxied {
            self.note(&location, "needs proxy on the same route, whose backend hands streams over");
        }
        // No replay by default: the body of the response has the initial events.
        let options = defaults.without_replay();
        let events = self.stream(&file, &location, options, || Some(Vec::new()))?;
        let issuer = self.issuer(file.issuer);
        let what = "set the secret that the backend verifies Grip-Sig with, such as \
                    ${HANDOVER_KEY:?openssl rand -base64 32}";
        let key = self.required(file.key, &location, "key", what)?;
        self.has_secret(&key.location);
        Some(HandoverSettings { key: self.parse(&key, secret::shared)?, issuer, events })
    }

    fn issuer(&self, field: Field<String>) -> String {
        let Some(At { location, value }) = field.written() else { return ISSUER.to_owned() };
        if value.is_empty() {
            self.note(&location, "is empty; remove it, or set the issuer");
        }
        value
    }
}
