//! Several hosts in one URL, as those of sentinels and of a Cluster. No message contains a part that may be secret.

use redis::ConnectionAddr;
use ssegate_strict_yaml::quoted;

use super::redis_url::{redis_info, with_tls};

/// What the hosts of a URL are.
pub(super) struct HostList {
    /// Their kind, for people, such as `sentinel`.
    pub(super) what: &'static str,
    /// The port of one that is written without.
    pub(super) default_port: u16,
    /// An example of a URL.
    pub(super) form: &'static str,
}

impl HostList {
    /// Parses `HOST:PORT,HOST:PORT`. `is_insecure`: with TLS, and whether the certificates are not verified.
    ///
    /// # Errors
    /// A message that says what is wrong and how to fix it.
    pub(super) fn parse(
        &self,
        hosts: &str,
        is_insecure: Option<bool>,
    ) -> Result<Vec<ConnectionAddr>, String> {
        let addresses = hosts.split(',').map(|host| self.address(host, is_insecure));
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        for (at, address) in addresses.iter().enumerate() {
            if addresses[..at].contains(address) {
                let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
                    address
                else {
                    continue;
                };
                let named = quoted(&format!("{host}:{port}"));
                return Err(format!("names the {} {named} twice", self.what));
            }
        }
        Ok(addresses)
    }

    fn address(&self, host: &str, is_insecure: Option<bool>) -> Result<ConnectionAddr, String> {
        let Self { what, form, .. } = self;
        if host.is_empty() {
            return Err(format!("a {what} has no host; use forms like {form}"));
        }
        // The URL parser takes others, and encodes them: no name has them.
        let is_host = |c: char| c.is_ascii_alphanumeric() || "._-:[]".contains(c);
        if let Some(other) = host.chars().find(|c| !is_host(*c)) {
            return Err(format!("a {what} has a host with {other:?} in it; use forms like {form}"));
        }
        // Names are the same in capital letters. An IPv6 address in brackets may have no port.
        let host = host.to_ascii_lowercase();
        let host = match host.rsplit_once(':') {
            Some((_, port)) if !port.is_empty() && !port.ends_with(']') => host,
            _ => format!("{}:{}", host.strip_suffix(':').unwrap_or(&host), self.default_port),
        };
        let address = redis_info(&format!("redis://{host}"))?.addr().clone();
        Ok(match is_insecure {
            Some(insecure) => with_tls(address, insecure),
            None => address,
        })
    }
}

/// Whether a user and a password, up to the last `@`, are those of more than one host.
pub(super) fn is_login_repeated(login: &str) -> bool {
    login.trim_end_matches('@').split_once('@').is_some_and(|(_, rest)| {
        // Or it is a password with both in it.
        rest.contains(',')
    })
}
