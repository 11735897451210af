//! What all URLs of Redis have in common: user, password, host, port and database. No message contains a part of the
//! URL that may be secret.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};

use super::authority;

/// Parses a URL that the `redis` crate knows.
///
/// # Errors
/// A message that says what is wrong and how to fix it.
pub(super) fn redis_info(url: &str) -> Result<ConnectionInfo, String> {
    if let Some(mistake) = host_mistake(url) {
        return Err(mistake);
    }
    url.into_connection_info().map_err(|error| reason(&error))
}

/// Returns a message about the host or the port. These follow every secret, so they may be quoted.
fn host_mistake(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("redis"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host_and_port =
        authority.rsplit_once('@').map_or(authority, |(_, host_and_port)| host_and_port);
    if host_and_port.contains(',') {
        let hosts = host_and_port.split(',').count();
        return Some(format!(
            "has {hosts} hosts; redis:// has one. For sentinels, write redis+sentinel://host:26379,host:26379/mymaster"
        ));
    }
    // Without an @, the text after a colon may be a password.
    let is_plain = !rest.contains('@') || authority.contains('@');
    authority::no_port(host_and_port).filter(|_| is_plain && host_and_port.contains(':'))
}

/// The address, with TLS.
pub(super) fn with_tls(address: ConnectionAddr, insecure: bool) -> ConnectionAddr {
    match address {
        ConnectionAddr::Tcp(host, port) => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params: None }
        }
        other => other,
    }
}

/// Replaces the message of the parser, which may quote the URL.
fn reason(error: &RedisError) -> String {
    const REASONS: [(&str, &str); 6] = [
        ("Invalid database number", "the database after the / must be a number"),
        ("Invalid protocol version", "the protocol must be resp2 or resp3"),
        ("Missing hostname", "the URL has no host"),
        ("Missing path", "the URL has no socket path; write redis+unix:///run/redis.sock"),
        (
            "Cannot connect to a wildcard",
            "0.0.0.0 is an address to listen on; set the address of Redis",
        ),
        ("Username is not valid", "the user is not UTF-8"),
    ];
    let complaint = error.to_string();
    REASONS.iter().find(|(beginning, _)| complaint.starts_with(beginning)).map_or_else(
        || "not a valid URL; in a password, percent-encode characters such as / # ? @".to_owned(),
        |(_, reason)| (*reason).to_owned(),
    )
}
