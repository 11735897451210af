//! The syntax of `:authority`, and of a `Host` that replaces it.

use std::net::Ipv6Addr;

/// Whether this is a host with an optional port, as web clients send it: a name, an IPv4 address,
/// or an IPv6 address in brackets (RFC 3986, section 3.2.2), without user information (RFC 9113,
/// section 8.3.1).
///
/// Stricter than RFC 3986, which allows a comma, an empty port, and a port above 65535: a backend
/// may parse those differently.
pub(crate) fn is_authority(octets: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(octets) else { return false };
    let (is_host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (is_name(&text[..end]), &text[end..])
        }
    };
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_name(name: &str) -> bool {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'~');
    !name.is_empty() && name.bytes().all(is_fit)
}

/// Whether this is a port that every parser reads the same way: one to five digits, at most 65535.
pub fn is_port(port: &str) -> bool {
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    is_number && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_authority;

    #[test]
    fn only_a_host_with_an_optional_port_is_an_authority() {
        for (text, expected) in [
            ("a.example", true),
            ("A.Example.:443", true),
            ("my_service:8080", true),
            ("127.0.0.1:80", true),
            ("[::1]", true),
            ("[2001:db8::1]:8443", true),
            ("a:0", true),
            ("a:65535", true),
            ("", false),
            (":80", false),
            ("a:", false),
            ("a:99999", false),
            ("a:65536", false),
            ("a:+1", false),
            ("a:8o", false),
            ("a:1:2", false),
            ("a,b", false),
            ("a b", false),
            ("me@a", false),
            ("a/b", false),
            ("a?b", false),
            ("a%41", false),
            ("\u{e4}", false),
            ("::1", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[::1]:", false),
            ("[fe80::1%25eth0]", false),
            ("[v1.a]", false),
        ] {
            assert_eq!(is_authority(text.as_bytes()), expected, "{text}");
        }
    }
}
