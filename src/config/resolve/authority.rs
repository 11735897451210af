//! Parses addresses, networks, host names and origins.
//!
//! Pure: each function takes a text, and returns a value or a message that says how to fix the text.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::uri::Authority;
use ipnet::IpNet;
use ssegate_strict_yaml::quoted;

/// Parses an IP address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        if let Some(mistake) = no_port(text) {
            return mistake;
        }
        let quoted = quoted(text);
        // `8080`, `:8080` and `localhost:8080` do not say which addresses to listen on.
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        match (host, port.parse::<u16>()) {
            ("localhost", Ok(port)) => {
                format!("{quoted} is not an IP address; write 127.0.0.1:{port} or [::1]:{port}")
            }
            ("" | "*", Ok(port)) => format!(
                "{quoted} has no IP address; write 127.0.0.1:{port} for this machine only, or \
                 0.0.0.0:{port} for all interfaces"
            ),
            _ => format!(
                "{quoted} is not an address; use forms like 127.0.0.1:8080, 0.0.0.0:443 or [::]:443"
            ),
        }
    })
}

/// Returns a message where the port of `host:port`, or a port alone, is a number out of range.
pub(super) fn no_port(text: &str) -> Option<String> {
    let digits = text.rsplit_once(':').map_or(text, |(_, port)| port);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && digits.parse::<u16>().is_err())
        .then(|| format!("{} is not a valid port; the highest is 65535", quoted(digits)))
}

/// Parses a network, `10.0.0.0/8`, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse().map(|address: IpAddr| IpNet::from(address.to_canonical()));
    text.parse().or_else(|_| address()).map_err(|_| {
        format!(
            "{} is not a network; use forms like 10.0.0.0/8, 192.0.2.7 or fd00::/8",
            quoted(text)
        )
    })
}

/// Parses what follows `embedded://`: an address, with the default port of the bus if it has none.
pub(super) fn embedded(rest: &str) -> Result<SocketAddr, String> {
    const DEFAULT_PORT: u16 = 6380;
    const FORM: &str = "write embedded://127.0.0.1:6380";
    let authority: Authority = rest
        .trim_end_matches('/')
        .parse()
        .map_err(|_| format!("embedded:// takes only an address and a port; {FORM}"))?;
    if authority.as_str().contains('@') {
        return Err(format!("the embedded bus has no user or password; {FORM}"));
    }
    let host = authority.host().trim_matches(['[', ']']);
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| {
            format!("the embedded bus listens on an IP address or on localhost; {FORM}")
        })?,
    };
    Ok(SocketAddr::new(ip, port(&authority)?.unwrap_or(DEFAULT_PORT)))
}

/// Returns the port, if there is one. `http::uri::Authority` accepts any number of digits.
pub(super) fn port(authority: &Authority) -> Result<Option<u16>, String> {
    let written = authority.as_str().len() > authority.host().len();
    match authority.port_u16() {
        None if written && !authority.as_str().contains('@') => {
            let text = authority.as_str();
            Err(no_port(text).unwrap_or_else(|| format!("{} has no valid port", quoted(text))))
        }
        port => Ok(port),
    }
}

/// Parses a host name without a port. Returns it in lower case.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = || format!("{} is not a host name; write it like app.example", quoted(text));
    if text.contains("://") {
        return Err(format!("{} is a URL; write only the host name", quoted(text)));
    }
    if text.contains('*') {
        return Err(format!("{}: wildcards are not supported", quoted(text)));
    }
    let authority: Authority = text.parse().map_err(|_| bare())?;
    match authority.host() {
        "" => Err(bare()),
        host if host == text => Ok(host.to_ascii_lowercase()),
        host if !text.contains('@') => Err(format!("{} has a port; write {host}", quoted(text))),
        _ => Err(bare()),
    }
}

/// Parses an origin as browsers send it, `scheme://host[:port]` (RFC 6454, section 6.2), or `*`.
pub(super) fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let wrong = || {
        format!("{} is not an origin; use forms like https://app.example or \"*\"", quoted(text))
    };
    if text.contains('*') {
        return Err(format!("{}: wildcards are not supported; list each origin", quoted(text)));
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority: Authority = rest[..end].parse().map_err(|_| wrong())?;
    if scheme.is_empty() || authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(wrong());
    }
    let host = authority.host().to_ascii_lowercase();
    let origin = match (scheme.as_str(), port(&authority)?) {
        // Browsers omit the default port.
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    };
    if end < rest.len() {
        return Err(format!("{} has a path; browsers send {origin}", quoted(text)));
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::{address, embedded, host, network, origin};

    #[test]
    fn an_address_has_an_ip_address_and_a_port() {
        for text in ["127.0.0.1:8080", "0.0.0.0:443", "[::1]:0"] {
            assert_eq!(address(text).expect(text).to_string(), text);
        }
        for (text, hint) in [
            (
                "8080",
                "write 127.0.0.1:8080 for this machine only, or 0.0.0.0:8080 for all interfaces",
            ),
            (
                ":8080",
                "write 127.0.0.1:8080 for this machine only, or 0.0.0.0:8080 for all interfaces",
            ),
            ("localhost:80", "write 127.0.0.1:80 or [::1]:80"),
            ("127.0.0.1", "use forms like"),
            ("127.0.0.1:99999", "\"99999\" is not a valid port; the highest is 65535"),
            ("localhost:99999", "\"99999\" is not a valid port"),
            ("99999", "\"99999\" is not a valid port"),
            ("", "use forms like"),
        ] {
            let message = address(text).expect_err(text);
            assert!(message.contains(hint), "{text}: {message}");
        }
    }

    #[test]
    fn networks_are_prefixes_or_single_addresses() {
        for (text, expected) in
            [("10.0.0.0/8", "10.0.0.0/8"), ("192.0.2.7", "192.0.2.7/32"), ("::1", "::1/128")]
        {
            assert_eq!(network(text).expect(text).to_string(), expected);
        }
        for text in ["", "10.0.0.0/33", "localhost", "10.0.0.0-10.0.0.9", "*"] {
            assert!(network(text).expect_err(text).contains("use forms like"), "{text}");
        }
    }

    #[test]
    fn the_embedded_bus_has_an_address() {
        for (rest, expected) in [
            ("127.0.0.1:6380", "127.0.0.1:6380"),
            ("127.0.0.1", "127.0.0.1:6380"),
            ("localhost:0/", "127.0.0.1:0"),
            ("0.0.0.0:7000", "0.0.0.0:7000"),
            ("[::1]:6380", "[::1]:6380"),
        ] {
            assert_eq!(embedded(rest).expect(rest).to_string(), expected);
        }
        for rest in ["", "bus:6380", ":pw@127.0.0.1:6380", "127.0.0.1:99999", "127.0.0.1:6380/1"] {
            let message = embedded(rest).expect_err(rest);
            assert!(!message.contains("pw"), "{message}");
        }
    }

    #[test]
    fn a_host_is_a_name_without_a_port_in_lower_case() {
        assert_eq!(host("App.Example").as_deref(), Ok("app.example"));
        assert_eq!(host("[::1]").as_deref(), Ok("[::1]"));
        for (text, hint) in [
            ("app.example:443", "write app.example"),
            ("https://app.example", "write only the host name"),
            ("*.example", "wildcards are not supported"),
            ("", "write it like app.example"),
            ("a b", "write it like app.example"),
            ("me@app.example", "write it like app.example"),
        ] {
            let message = host(text).expect_err(text);
            assert!(message.contains(hint), "{text}: {message}");
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for (text, expected) in [
            ("*", "*"),
            ("https://App.Example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, hint) in [
            ("https://app.example/", "browsers send https://app.example"),
            ("https://app.example/x?y", "browsers send https://app.example"),
            ("app.example", "use forms like"),
            ("https://", "use forms like"),
            ("null", "use forms like"),
            ("https://*.example", "wildcards are not supported"),
            ("https://me:pw@app.example", "use forms like"),
        ] {
            let message = origin(text).expect_err(text);
            assert!(message.contains(hint), "{text}: {message}");
        }
    }
}
