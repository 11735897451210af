//! Resolves `revocation`. No message contains a part of the key.

use ssegate_auth::revocation::ControlKey;
use ssegate_hub::ChannelName;
use ssegate_strict_yaml::{At, Field, OrOff, Sets as _};

use super::resolver::Resolver;
use super::secret;
use crate::auth::{ControlSettings, RevocationSettings};
use crate::config::file::RevocationFile;
use crate::route::OWN_NAMES;

impl Resolver<'_> {
    /// Returns `None` where nothing can be revoked, or after a mistake.
    pub(super) fn revocation(
        &self,
        field: Field<OrOff<RevocationFile>>,
    ) -> Option<RevocationSettings> {
        let At { location, value: OrOff::On(mut file) } = field.written()? else { return None };
        let mut settings = RevocationSettings::default();
        file.set(&mut settings, &location, self.mistakes);
        let channel = std::mem::take(&mut file.control_channel).written();
        let key = std::mem::take(&mut file.key);
        let Some(channel) = channel else {
            if let Some(location) = key.location() {
                self.note(location, "signs what is published; set control_channel, too");
            }
            return Some(settings);
        };
        let channel = self.parse(&channel, control_channel);
        let what = "set the secret with which revocations are signed, such as \
                    ${REVOCATION_KEY:?openssl rand -base64 32}";
        let key = self.required(key, &location, "key", what);
        if let Some(key) = &key {
            self.has_secret(&key.location);
        }
        let key = key.and_then(|key| self.parse(&key, control_key));
        settings.control = Some(ControlSettings { channel: channel?, key: key? });
        Some(settings)
    }
}

/// Parses the name of a control channel.
///
/// # Errors
/// A message that says what is wrong with it.
pub fn control_channel(text: &str) -> Result<ChannelName, String> {
    // What is published over HTTP cannot have such a name, and what is stored beside it begins with its own.
    if !text.starts_with(OWN_NAMES) {
        return Err(format!("must begin with {OWN_NAMES}, such as ssegate:revoke"));
    }
    ChannelName::new(text).map_err(|error| error.to_string())
}

/// Parses a control key as it is written in the file: plain, or after `base64:`.
///
/// # Errors
/// A message that says what is wrong, without a part of it.
pub fn control_key(text: &str) -> Result<ControlKey, String> {
    let bytes = secret::bytes(text)?;
    ControlKey::new(&bytes).ok_or_else(|| secret::too_short(bytes.len(), ControlKey::MIN_BYTES))
}
