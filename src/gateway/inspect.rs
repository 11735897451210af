//! What a start would find wrong, or doubtful, without a start: for `ssegate check`.

use std::time::SystemTime;

use super::{Error, sockets};
use crate::config::Settings;
use crate::server::listener::ListenError;
use crate::server::own_address::is_own_address;
use crate::server::{descriptors, tls};

/// Looks at what the settings name, opens nothing and makes nothing. Gives what is doubtful, a line
/// each: a certificate that ends soon, an address that this machine has not.
///
/// # Errors
/// What a start would fail on.
pub fn inspect(settings: &Settings) -> Result<Vec<String>, Error> {
    let addresses = sockets::addresses(settings);
    // What a start raises first.
    descriptors::raise_limit();
    descriptors::check_limit(settings.shards, addresses.len()).map_err(Error::Files)?;
    let mut doubts = Vec::new();
    for listener in &settings.listeners {
        let Some(tls) = &listener.tls else { continue };
        doubts.extend(tls::check(tls, SystemTime::now()).map_err(ListenError::Tls)?);
    }
    let foreign = addresses.into_iter().filter(|address| !is_own_address(address.ip()));
    doubts.extend(foreign.map(|address| {
        format!("{address}: this machine has no such address now, and nobody can listen on it")
    }));
    Ok(doubts)
}
