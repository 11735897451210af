//! What all URLs of Redis have in common: user, password, host, port and database. No message contains a part of the
//! URL that may be secret.

use std::net::Ipv4Addr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError};
use ssegate_strict_yaml::quoted;

use super::authority;

/// Parses a URL that the `redis` crate knows.
///
/// # Errors
/// A message that says what is wrong and how to fix it.
pub(super) fn redis_info(url: &str) -> Result<ConnectionInfo, String> {
    if let Some(mistake) = host_mistake(url) {
        return Err(mistake);
    }
    check_encoding(url)?;
    let info = url.into_connection_info().map_err(|error| reason(&error))?;
    check_login(info.redis_settings())?;
    check_address(info.addr())?;
    Ok(info)
}

/// Finds a `%` that encodes nothing: it would be taken as it is.
///
/// # Errors
/// There is one.
pub(super) fn check_encoding(text: &str) -> Result<(), String> {
    let is_encoded = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    };
    match text.split('%').skip(1).all(is_encoded) {
        true => Ok(()),
        false => {
            Err("has a % that is not followed by two hexadecimal digits; write %25".to_owned())
        }
    }
}

fn check_login(login: &RedisConnectionInfo) -> Result<(), String> {
    // Without a password nobody logs in, as whoever it is.
    if login.username().is_some_and(|user| !user.is_empty())
        && login.password().is_none_or(str::is_empty)
    {
        return Err("has a user and no password; write user:password@".to_owned());
    }
    match i32::try_from(login.db()) {
        Ok(0..) => Ok(()),
        _ => Err("the database after the / must be a number from 0 to 2147483647".to_owned()),
    }
}

fn check_address(address: &ConnectionAddr) -> Result<(), String> {
    let ConnectionAddr::Tcp(host, port) = address else { return Ok(()) };
    if *port == 0 {
        return Err("nothing can listen on port 0; write the port of Redis".to_owned());
    }
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_like_ip = host.split('.').count() == 4 && host.split('.').all(is_number);
    match is_like_ip && host.parse::<Ipv4Addr>().is_err() {
        true => Err(format!("{} is not an IP address", quoted(host))),
        false => Ok(()),
    }
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
    // These are keys of other URLs, which would be ignored.
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|parameter| parameter.starts_with("sentinel_")) {
        return Some("sentinel_username and sentinel_password are of redis+sentinel://".to_owned());
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
