//! Checks that a start would make, without starting: for `ssegate check`.

use std::time::SystemTime;

use super::{Error, sockets};
use crate::config::Settings;
use crate::server::listener::ListenError;
use crate::server::own_address::is_own_address;
use crate::server::{descriptors, tls};

/// Checks the files and addresses in the settings. Opens no socket and creates no file. Returns
/// warnings, one line each: a certificate that expires soon, an address that this machine does not
/// have.
///
/// # Errors
/// The error that a start would fail with.
pub fn inspect(settings: &Settings) -> Result<Vec<String>, Error> {
    let addresses = sockets::addresses(settings);
    // A start raises the limit first, too.
    descriptors::raise_limit();
    descriptors::check_limit(settings.shards, addresses.len()).map_err(Error::TooFewFiles)?;
    let mut warnings = Vec::new();
    for listener in &settings.listeners {
        let Some(tls) = &listener.tls else { continue };
        warnings.extend(tls::check(tls, SystemTime::now()).map_err(ListenError::Tls)?);
    }
    let foreign = addresses.into_iter().filter(|address| !is_own_address(address.ip()));
    warnings.extend(foreign.map(|address| {
        format!("{address}: no network interface has this address now; listening on it will fail")
    }));
    Ok(warnings)
}
