//! Where a request comes from, as its backend is told: `X-Forwarded-*`, `Forwarded` (RFC 7239),
//! `Via` (RFC 9110, section 7.6.3).
//!
//! What a stranger says of this is dropped. What a trusted proxy says is kept, and the proxy's own
//! address put behind it. A proxy that speaks only one of `X-Forwarded-For` and `Forwarded` hears no
//! other from us: it would name the proxy where a backend looks for the client.

use bytes::Bytes;
use http::header::{FORWARDED, HOST, HeaderName, VIA};
use http::{HeaderMap, HeaderValue, Version};

use super::headers;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What the client asked for.
pub(super) const HOST_ASKED: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme that the client speaks.
pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// So many fields are added to a request.
const ADDED: usize = 5;

/// Who sent a request to us, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    /// The other end of the connection: an IP address.
    pub(super) address: &'a str,
    /// Whether it is a proxy that is believed.
    pub(super) is_trusted: bool,
    /// Whether it speaks TLS to us.
    pub(super) is_tls: bool,
}

/// Tells the backend where the request comes from. `Host` is still what the client asked for.
pub(super) fn tell(headers: &mut HeaderMap, sender: Sender<'_>) {
    headers::remove(headers, |name| {
        is_alias(name) || (!sender.is_trusted && names_the_sender(name.as_str()))
    });
    headers.reserve(ADDED);
    let (has_for, has_forwarded) = (headers.contains_key(FOR), headers.contains_key(FORWARDED));
    let host = headers.get(HOST).cloned();
    let scheme = if sender.is_tls { "https" } else { "http" };
    if !has_forwarded || has_for {
        append(headers, FOR, sender.address.as_bytes());
        headers.entry(PROTO).or_insert(HeaderValue::from_static(scheme));
        if let Some(host) = &host {
            headers.entry(HOST_ASKED).or_insert_with(|| host.clone());
        }
    }
    if !has_for || has_forwarded {
        let element = element(sender.address, host.as_ref(), scheme);
        append(headers, FORWARDED, &element);
    }
}

fn names_the_sender(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-real-ip"
    )
}

/// Whether CGI, WSGI and Rack read this name as one of those fields: `x_real_ip` as `X-Real-IP`. Even a
/// trusted proxy does not send such a name, and `underscores_in_headers` does not let it pass.
fn is_alias(name: &HeaderName) -> bool {
    name.as_str().contains('_') && names_the_sender(&name.as_str().replace('_', "-"))
}

/// Says that the message came through us. Received in `version`.
pub(super) fn tell_via(headers: &mut HeaderMap, version: Version) {
    headers.append(
        VIA,
        HeaderValue::from_static(match version {
            Version::HTTP_2 => "2 ssegate",
            Version::HTTP_10 => "1.0 ssegate",
            _ => "1.1 ssegate",
        }),
    );
}

/// Puts a value behind those that are there, as one field.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    let mut earlier = headers.get_all(&name).iter().peekable();
    let all = if earlier.peek().is_none() {
        HeaderValue::from_bytes(value)
    } else {
        let mut all: Vec<&[u8]> = earlier.map(HeaderValue::as_bytes).collect();
        all.push(value);
        HeaderValue::from_maybe_shared(Bytes::from(all.join(&b", "[..])))
    };
    headers.insert(name, all.expect("valid values, and separators of plain text"));
}

/// One `forwarded-element`. An IPv6 address and a port want quotes (RFC 7239, sections 4 and 6).
fn element(address: &str, host: Option<&HeaderValue>, scheme: &str) -> Vec<u8> {
    let is_ipv6 = address.contains(':');
    let host = host.and_then(|host| host.to_str().ok());
    // A quote or a backslash is in no host that has got so far.
    let host = host.filter(|host| !host.contains(['"', '\\']));
    let is_token = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let (before, after) = if is_ipv6 { ("\"[", "]\"") } else { ("", "") };
    let quote = if host.is_none_or(is_token) { "" } else { "\"" };
    let host_is = if host.is_some() { ";host=" } else { "" };
    let parts = [
        "for=",
        before,
        address,
        after,
        host_is,
        quote,
        host.unwrap_or_default(),
        quote,
        ";proto=",
        scheme,
    ];
    parts.concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Sender, tell};

    fn told(sender: &str, is_trusted: bool, fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        tell(&mut headers, Sender { address: sender, is_trusted, is_tls: true });
        headers.remove("host");
        let mut fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        fields.sort();
        fields
    }

    const SPOOFED: [(&str, &str); 7] = [
        ("host", "app.example:8443"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "ftp"),
        ("x-forwarded-host", "evil.example"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1;proto=ftp"),
    ];

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(
            told("2001:db8::7", false, &SPOOFED),
            [
                "forwarded: for=\"[2001:db8::7]\";host=\"app.example:8443\";proto=https",
                "x-forwarded-for: 2001:db8::7",
                "x-forwarded-host: app.example:8443",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_named() {
        assert_eq!(
            told("10.0.0.1", true, &SPOOFED),
            [
                "forwarded: for=1.1.1.1;proto=ftp, \
                 for=10.0.0.1;host=\"app.example:8443\";proto=https",
                "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.1",
                "x-forwarded-host: evil.example",
                "x-forwarded-proto: ftp",
                "x-real-ip: 1.1.1.1",
            ]
        );
    }

    #[test]
    fn a_proxy_that_speaks_one_of_both_hears_no_other() {
        assert_eq!(
            told("10.0.0.1", true, &[("host", "a"), ("x-forwarded-for", "1.1.1.1")]),
            [
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: a",
                "x-forwarded-proto: https"
            ]
        );
        assert_eq!(
            told("10.0.0.1", true, &[("host", "a"), ("forwarded", "for=1.1.1.1")]),
            ["forwarded: for=1.1.1.1, for=10.0.0.1;host=a;proto=https"]
        );
    }
}
