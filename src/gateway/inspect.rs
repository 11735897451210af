//! What a start would find wrong, or doubtful, without a start: for `ssegate check`.

use std::net::{IpAddr, UdpSocket};
use std::time::SystemTime;

use super::{Error, sockets};
use crate::config::Settings;
use crate::server::listener::ListenError;
use crate::server::{TlsSettings, files, tls};

/// Looks at what the settings name, opens nothing and makes nothing. Gives what is doubtful, a line
/// each: a certificate that ends soon, an address that this machine has not.
///
/// # Errors
/// What a start would fail on.
pub fn inspect(settings: &Settings) -> Result<Vec<String>, Error> {
    let addresses = sockets::addresses(settings);
    // What a start raises first.
    files::raise_limit();
    files::enough(settings.shards, addresses.len()).map_err(Error::Files)?;
    let mut doubts = Vec::new();
    for listener in &settings.listeners {
        let Some(tls) = &listener.tls else { continue };
        tls::check(tls).map_err(ListenError::Tls)?;
        if let TlsSettings::Files { certificate, .. } = tls {
            let problem = tls::certificate(tls).ok().and_then(|c| c.problem(SystemTime::now()));
            let about = |problem| format!("{}: {problem}", certificate.display());
            doubts.extend(problem.map(about));
        }
    }
    let foreign = addresses.into_iter().filter(|address| !is_here(address.ip()));
    doubts.extend(foreign.map(|address| {
        format!("{address}: this machine has no such address now, and nobody can listen on it")
    }));
    Ok(doubts)
}

/// Whether this machine has the address. A socket of UDP takes no port from anybody.
fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
