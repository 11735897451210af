//! Resolves `fleet`. No message contains a part of the key.

use ssegate_strict_yaml::{At, Field, OrOff, Sets as _};

use super::resolver::Resolver;
use super::secret;
use crate::config::file::FleetFile;
use crate::source::fleet::{FleetKey, FleetSettings};

impl Resolver<'_> {
    /// Returns `None` for a gateway that is on its own.
    pub(super) fn fleet(&self, field: Field<OrOff<FleetFile>>) -> Option<FleetSettings> {
        let mut settings = FleetSettings::default();
        let Some(At { location, value }) = field.written() else { return Some(settings) };
        let OrOff::On(mut file) = value else { return None };
        file.set(&mut settings, &location, self.mistakes);
        if let Some(key) = std::mem::take(&mut file.key).written() {
            self.has_secret(&key.location);
            settings.key = self.parse(&key, fleet_key);
        }
        Some(settings)
    }
}

/// Parses the key of a fleet as it is written in the file.
fn fleet_key(text: &str) -> Result<FleetKey, String> {
    let bytes = secret::bytes(text)?;
    FleetKey::new(&bytes).ok_or_else(|| secret::too_short(bytes.len(), FleetKey::MIN_BYTES))
}
