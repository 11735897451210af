//! The fields that tell the backend about the client: `X-Forwarded-*`, `Forwarded` (RFC 7239) and
//! `Via` (RFC 9110, section 7.6.3).
//!
//! From an untrusted peer these fields are removed, every one that begins with `X-Forwarded-`: Rails and Rack
//! trust `-Ssl` and `-Scheme`, Symfony and Laravel `-Prefix`, applications behind oauth2-proxy `-User`. Caddy
//! and Traefik remove those that they set; nginx passes them all, and its users overwrite one by one.
//! From a trusted proxy these fields are kept, and the proxy's own address is appended. If a trusted proxy
//! sends only one of `X-Forwarded-For` and `Forwarded`, the other is not added: it would name the proxy
//! where the backend expects the client.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{FORWARDED, HOST, HeaderName, VIA};
use http::{HeaderMap, HeaderValue, Version};

use super::headers;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The `Host` of the client's request.
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme of the client's request.
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The maximum number of fields added to a request.
const MAX_ADDED: usize = 5;

/// The peer that sent a request to the gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// Its IP address.
    pub(super) address: &'a str,
    /// Whether it is a trusted proxy.
    pub(super) is_trusted: bool,
    /// Whether its connection uses TLS.
    pub(super) is_tls: bool,
}

/// Sets `X-Forwarded-*` and `Forwarded`, and removes what a backend may read as a reserved field.
/// `Host` must still be the client's.
pub(super) fn set_forwarded(headers: &mut HeaderMap, peer: Peer<'_>) {
    headers::remove(headers, |name| {
        headers::is_reserved_alias(name) || (!peer.is_trusted && is_forwarding_field(name.as_str()))
    });
    headers.reserve(MAX_ADDED);
    let (has_for, has_forwarded) =
        (headers.contains_key(X_FORWARDED_FOR), headers.contains_key(FORWARDED));
    let host = headers.get(HOST).cloned();
    let scheme = if peer.is_tls { "https" } else { "http" };
    if !has_forwarded || has_for {
        append(headers, X_FORWARDED_FOR, peer.address.as_bytes());
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
        if let Some(host) = &host {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
    }
    if !has_for || has_forwarded {
        let element = element(peer.address, host.as_ref(), scheme);
        append(headers, FORWARDED, &element);
    }
}

fn is_forwarding_field(name: &str) -> bool {
    name.starts_with(headers::X_FORWARDED) || matches!(name, "forwarded" | "x-real-ip")
}

/// The name of this process in `Via`. It is random: the names of two gateways in a row must differ, or the
/// second would take each request for one that has come back.
static PSEUDONYM: LazyLock<String> =
    LazyLock::new(|| format!("{PSEUDONYM_PREFIX}{:08x}", fastrand::u32(..)));

/// The beginning of the name of every gateway in `Via`.
const PSEUDONYM_PREFIX: &str = "ssegate-";

/// The most gateways that [`gateways_passed`] returns.
const MAX_GATEWAYS: usize = 16;

/// The entries of this process in `Via`, for HTTP/1.0, HTTP/1.1 and HTTP/2. Made once, since every request gets one.
static OWN_ENTRIES: LazyLock<[HeaderValue; 3]> = LazyLock::new(|| {
    ["1.0", "1.1", "2"].map(|version| {
        let entry = HeaderValue::try_from(format!("{version} {}", *PSEUDONYM));
        entry.expect("letters, digits and a hyphen")
    })
});

/// How many times a request may come back to this process. More than once is a loop, except for a few detours, such
/// as a cache between two routes of one gateway.
const MAX_PASSES: usize = 3;

/// Appends the gateway to `Via`. `version` is that of the message as received.
pub(super) fn append_via(headers: &mut HeaderMap, version: Version) {
    let [http10, http11, http2] = &*OWN_ENTRIES;
    let entry = match version {
        Version::HTTP_2 => http2,
        Version::HTTP_10 => http10,
        _ => http11,
    };
    headers.append(VIA, entry.clone());
}

/// Whether the request is in a loop: `Via` names this process [`MAX_PASSES`] times.
pub(super) fn is_in_loop(headers: &HeaderMap) -> bool {
    passes(headers) >= MAX_PASSES
}

/// How many times `Via` names this process.
pub(super) fn passes(headers: &HeaderMap) -> usize {
    received_by(headers).filter(|name| *name == PSEUDONYM.as_str()).count()
}

/// Returns the gateways that `Via` names, as a value of `Via`; `None`: there are none.
pub(super) fn gateways_passed(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_gateway = |name: &&str| {
        name.strip_prefix(PSEUDONYM_PREFIX).is_some_and(|digits| {
            digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
    };
    let passed = received_by(headers).filter(is_gateway).take(MAX_GATEWAYS);
    let passed: Vec<String> = passed.map(|name| format!("1.1 {name}")).collect();
    let passed = Some(passed).filter(|passed| !passed.is_empty())?;
    Some(HeaderValue::try_from(passed.join(", ")).expect("letters, digits, hyphens and commas"))
}

/// The names in `Via`.
fn received_by(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    let entries = values.flat_map(|value| value.split(','));
    // `received-protocol received-by [comment]`
    entries.filter_map(|entry| entry.split_ascii_whitespace().nth(1))
}

/// Appends a value to those present, and joins them into one field.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    let mut earlier = headers.get_all(&name).iter().peekable();
    let all = if earlier.peek().is_none() {
        HeaderValue::from_bytes(value)
    } else {
        let mut all: Vec<&[u8]> = earlier.map(HeaderValue::as_bytes).collect();
        all.push(value);
        HeaderValue::from_maybe_shared(Bytes::from(all.join(&b", "[..])))
    };
    headers.insert(name, all.expect("valid values joined by ASCII separators"));
}

/// One `forwarded-element`. An IPv6 address and a host with a port need quotes (RFC 7239, sections
/// 4 and 6).
fn element(address: &str, host: Option<&HeaderValue>, scheme: &str) -> Vec<u8> {
    let is_ipv6 = address.contains(':');
    let host = host.and_then(|host| host.to_str().ok());
    // A validated host has neither quote nor backslash; make sure of it.
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
    use http::{HeaderMap, HeaderName, HeaderValue, Version};

    use super::{PSEUDONYM, Peer, append_via, gateways_passed, is_in_loop, set_forwarded};

    #[test]
    fn of_the_names_in_via_those_of_gateways_are_passed_on() {
        for (via, expected) in [
            ("1.1 fred, 2 ssegate-0123abcd (secret), 1.1 ssegate-1", Some("1.1 ssegate-0123abcd")),
            (
                "1.1 ssegate-0123abcd,1.0\tssegate-ffffffff",
                Some("1.1 ssegate-0123abcd, 1.1 ssegate-ffffffff"),
            ),
            ("1.1 ssegate-0123abcx, ssegate-0123abcd, ", None),
        ] {
            let headers =
                HeaderMap::from_iter([(http::header::VIA, HeaderValue::from_static(via))]);
            let passed = gateways_passed(&headers);
            assert_eq!(passed.as_ref().map(|value| value.to_str().expect("text")), expected);
        }
        let many = "1.1 ssegate-0123abcd, ".repeat(100).parse().expect("a value");
        let headers = HeaderMap::from_iter([(http::header::VIA, many)]);
        assert_eq!(gateways_passed(&headers).map(|value| value.len()), Some(16 * 22 - 2));
        assert_eq!(gateways_passed(&HeaderMap::new()), None);
    }

    #[test]
    fn a_request_that_was_here_three_times_is_in_a_loop() {
        let mut headers = HeaderMap::new();
        // Another gateway, and names that only begin like ours.
        let others = "1.1 ssegate-0, 2 ssegate, 1.1 fred (ssegate), 1.1";
        headers.append("via", HeaderValue::from_static(others));
        for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_10] {
            assert!(!is_in_loop(&headers));
            append_via(&mut headers, version);
        }
        assert!(is_in_loop(&headers));
        let ours = &*PSEUDONYM;
        let joined = format!("1.1 {ours}, 1.0 fred,2 {ours} (a comment), HTTP/1.1  {ours}");
        headers.insert("via", joined.parse().expect("a value"));
        assert!(is_in_loop(&headers));
    }

    fn forwarded(peer: &str, is_trusted: bool, fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        set_forwarded(&mut headers, Peer { address: peer, is_trusted, is_tls: true });
        headers.remove("host");
        let mut fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        fields.sort();
        fields
    }

    const SPOOFED: [(&str, &str); 8] = [
        ("host", "app.example:8443"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "ftp"),
        ("x-forwarded-host", "evil.example"),
        ("x-real-ip", "1.1.1.1"),
        ("x-forwarded-user", "root"),
        ("forwarded", "for=1.1.1.1;proto=ftp"),
    ];

    #[test]
    fn forwarded_fields_of_an_untrusted_peer_are_replaced() {
        assert_eq!(
            forwarded("2001:db8::7", false, &SPOOFED),
            [
                "forwarded: for=\"[2001:db8::7]\";host=\"app.example:8443\";proto=https",
                "x-forwarded-for: 2001:db8::7",
                "x-forwarded-host: app.example:8443",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn forwarded_fields_of_a_trusted_proxy_are_kept_and_its_address_is_appended() {
        assert_eq!(
            forwarded("10.0.0.1", true, &SPOOFED),
            [
                "forwarded: for=1.1.1.1;proto=ftp, \
                 for=10.0.0.1;host=\"app.example:8443\";proto=https",
                "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.1",
                "x-forwarded-host: evil.example",
                "x-forwarded-proto: ftp",
                "x-forwarded-user: root",
                "x-real-ip: 1.1.1.1",
            ]
        );
    }

    #[test]
    fn a_trusted_proxy_that_sends_one_of_the_two_fields_does_not_get_the_other() {
        assert_eq!(
            forwarded("10.0.0.1", true, &[("host", "a"), ("x-forwarded-for", "1.1.1.1")]),
            [
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: a",
                "x-forwarded-proto: https"
            ]
        );
        assert_eq!(
            forwarded("10.0.0.1", true, &[("host", "a"), ("forwarded", "for=1.1.1.1")]),
            ["forwarded: for=1.1.1.1, for=10.0.0.1;host=a;proto=https"]
        );
    }
}
