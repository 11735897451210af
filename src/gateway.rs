//! Stand-in: the wiring and life of the gateway.

use crate::config::Settings;

/// Why the gateway could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This build has no gateway.
    #[error("the gateway is not part of this build")]
    Missing,
}

/// Runs until a signal ends it.
pub fn run(_settings: Settings) -> Result<(), Error> {
    Err(Error::Missing)
}
