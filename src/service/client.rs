//! The address of the client behind trusted proxies.
//!
//! It is the last address in `X-Forwarded-For` or `Forwarded` (RFC 7239) that is not a trusted
//! proxy. Addresses before it were written by an untrusted party.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address in a request from the trusted proxy at `proxy`.
pub(super) fn forwarded_client(proxy: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut last = proxy;
    for address in forwarded(headers) {
        // An invalid address ends the trusted part.
        let Some(address) = address else { break };
        last = address;
        if !is_trusted(&address) {
            break;
        }
    }
    last
}

/// The forwarded addresses, last first. `None` is one that does not parse.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let listed = |name: &HeaderName| {
        let values: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
        let texts = values.into_iter().filter_map(|value| value.to_str().ok());
        texts.flat_map(|text| text.split(',')).map(str::trim).rev().collect::<Vec<_>>()
    };
    let listed_for = listed(&X_FORWARDED_FOR);
    if listed_for.is_empty() {
        listed(&FORWARDED).into_iter().map(|element| node(for_parameter(element)?)).collect()
    } else {
        listed_for.into_iter().map(node).collect()
    }
}

/// The value of `for` in a `forwarded-element`.
fn for_parameter(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    Some(values.next()?.1.trim().trim_matches('"'))
}

/// Parses an address, with or without a port.
fn node(text: &str) -> Option<IpAddr> {
    let address: Option<SocketAddr> = text.parse().ok();
    let address = address.map(|address| address.ip());
    let address = address.or_else(|| text.trim_matches(['[', ']']).parse().ok())?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::forwarded_client;

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().expect("a network"));
        for (fields, client) in [
            (&[][..], "10.0.0.1"),
            (&[("x-forwarded-for", "1.1.1.1, 192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", "1.1.1.1, 192.0.2.7, 10.0.0.2")], "192.0.2.7"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "10.0.0.2")], "1.1.1.1"),
            (&[("x-forwarded-for", "1.1.1.1, nonsense")], "10.0.0.1"),
            (&[("x-forwarded-for", "192.0.2.7:4711")], "192.0.2.7"),
            (&[("x-forwarded-for", "::ffff:192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", "for=1.1.1.1, For=\"[2001:db8::1]:80\";proto=https")], "1.1.1.1"),
            (&[("forwarded", "proto=https;for=192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", "for=_hidden")], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let proxy = "10.0.0.1".parse().expect("an address");
            assert_eq!(
                forwarded_client(proxy, &headers, &trusted).to_string(),
                client,
                "{fields:?}"
            );
        }
    }
}
