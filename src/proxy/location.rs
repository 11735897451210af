//! Rewrites URLs in a response that point to the backend itself, so that they point to the gateway.
//!
//! A backend names its own port when it makes an absolute URL: `return 302 /path` in nginx, a
//! directory without its trailing slash in Apache. Clients cannot reach that port. `Location`,
//! `Content-Location` (RFC 9110, sections 10.2.2 and 8.7) and `Refresh` are rewritten: the fields
//! that nginx's `proxy_redirect` handles, or that browsers follow.
//!
//! The result is a path, which leads back to the origin that the client used, whatever proxies are
//! in between. nginx makes it absolute again, with the scheme and the port that it knows, which are
//! wrong for a client behind a load balancer.

use http::header::{CONTENT_LOCATION, HOST, HeaderName, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request};

use super::forwarded;
use crate::route::UpstreamAddress;

const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// The target of a request, with which the URLs in its response are compared.
#[derive(Debug)]
pub(super) struct LocationRewriter {
    /// The origin that the client used.
    client: Origin<HeaderValue>,
    /// The `Host` that the backend received.
    backend_host: HeaderValue,
    path: Option<PathAndQuery>,
    /// Whether a redirect to the same URL repeats the same request: GET and HEAD.
    repeats_on_redirect: bool,
}

/// A scheme and an authority.
#[derive(Clone, Copy, Debug)]
struct Origin<T> {
    is_tls: bool,
    authority: T,
}

impl LocationRewriter {
    /// The target of a request that is about to be sent to the backend; `None` if it has no `Host`.
    pub(super) fn for_request<B>(request: &Request<B>, is_tls: bool) -> Option<Self> {
        let headers = request.headers();
        let backend_host = headers.get(HOST)?.clone();
        let host = headers.get(forwarded::X_FORWARDED_HOST).unwrap_or(&backend_host).clone();
        let proto = headers.get(forwarded::X_FORWARDED_PROTO).map(HeaderValue::as_bytes);
        let is_tls = proto.map_or(is_tls, |proto| proto.eq_ignore_ascii_case(b"https"));
        Some(Self {
            client: Origin { is_tls, authority: host },
            backend_host,
            path: request.uri().path_and_query().cloned(),
            repeats_on_redirect: matches!(*request.method(), Method::GET | Method::HEAD),
        })
    }

    /// Rewrites the fields that point to `upstream`, which sent the response.
    pub(super) fn rewrite(&self, headers: &mut HeaderMap, upstream: &UpstreamAddress) {
        for name in [LOCATION, CONTENT_LOCATION] {
            let value = headers.get(&name);
            if let Some(path) = value.and_then(|value| self.rewrite_url(value.as_bytes(), upstream))
            {
                headers.insert(name, path);
            }
        }
        if let Some(refresh) = headers.get(REFRESH)
            && let Some(refresh) = self.rewrite_refresh(refresh.as_bytes(), upstream)
        {
            headers.insert(REFRESH, refresh);
        }
    }

    /// Rewrites `5; url=http://…`, with or without quotes, as browsers parse it (WHATWG HTML,
    /// section 4.2.5.3).
    fn rewrite_refresh(&self, value: &[u8], upstream: &UpstreamAddress) -> Option<HeaderValue> {
        let at = value.windows(3).position(|word| word.eq_ignore_ascii_case(b"url"))? + 3;
        let url = value[at..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
        let before = &value[..at];
        let quote = url.first().filter(|quote| matches!(quote, b'"' | b'\''));
        let url = match quote {
            Some(quote) => url[1..].split(|byte| byte == quote).next()?,
            None => url,
        };
        let path = self.rewrite_url(url, upstream)?;
        HeaderValue::from_bytes(&[before, b"=", path.as_bytes()].concat()).ok()
    }

    /// The path of a URL that points to `upstream`; `None` if it points to another origin.
    fn rewrite_url(&self, url: &[u8], upstream: &UpstreamAddress) -> Option<HeaderValue> {
        let (origin, rest) = split_origin(url)?;
        let points_there = self.points_to(upstream, origin, rest);
        points_there.then(|| HeaderValue::from_bytes(&as_path(rest)).ok()).flatten()
    }

    fn points_to(&self, upstream: &UpstreamAddress, origin: Origin<&[u8]>, rest: &[u8]) -> bool {
        let client =
            Origin { is_tls: self.client.is_tls, authority: self.client.authority.as_bytes() };
        if origin.is_same(client) {
            return false;
        }
        let (address, is_tls) = (upstream.authority(), upstream.is_tls());
        // A Unix socket has neither host nor port, so no URL can name it.
        let has_name = matches!(upstream, UpstreamAddress::Tcp { .. });
        let backend = Origin { is_tls, authority: address.as_bytes() };
        if has_name && origin.is_same(backend) {
            return true;
        }
        // An upgrade from HTTP to HTTPS is intended.
        if origin.is_tls && !client.is_tls {
            return false;
        }
        let sent = Origin { is_tls: origin.is_tls, authority: self.backend_host.as_bytes() };
        let has_backend_port = origin.host().eq_ignore_ascii_case(sent.host())
            && origin.is_tls == is_tls
            && origin.port() == backend.port();
        // A host that only the backend has: the route sets its own `host`.
        let has_backend_host =
            origin.is_same(sent) && !sent.host().eq_ignore_ascii_case(client.host());
        // A URL with the default port may mean the client's own origin. Rewriting it to the path
        // that was just requested would make a redirect loop.
        let has_other_port = origin.port() != origin.default_port();
        (has_backend_port || has_backend_host) && (has_other_port || !self.would_loop(rest))
    }

    fn would_loop(&self, rest: &[u8]) -> bool {
        let path = self.path.as_ref().map_or("/", PathAndQuery::as_str);
        let rest = rest.split(|&byte| byte == b'#').next().unwrap_or_default();
        let rest = if rest.is_empty() { b"/" } else { rest };
        self.repeats_on_redirect && rest == path.as_bytes()
    }
}

impl<'a> Origin<&'a [u8]> {
    fn split(self) -> (&'a [u8], Option<&'a [u8]>) {
        // Colons before the closing bracket belong to an IPv6 address.
        let address = self.authority.iter().rposition(|&byte| byte == b']').unwrap_or(0);
        match self.authority[address..].iter().position(|&byte| byte == b':') {
            Some(at) => {
                (&self.authority[..address + at], Some(&self.authority[address + at + 1..]))
            }
            None => (self.authority, None),
        }
    }

    fn host(self) -> &'a [u8] {
        self.split().0
    }

    /// The port, or the default of the scheme; `None`: not a valid port.
    fn port(self) -> Option<u16> {
        match self.split().1 {
            Some(port) if !port.is_empty() => str::from_utf8(port).ok()?.parse().ok(),
            _ => self.default_port(),
        }
    }

    fn default_port(self) -> Option<u16> {
        Some(if self.is_tls { 443 } else { 80 })
    }

    fn is_same(self, other: Self) -> bool {
        self.is_tls == other.is_tls
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }
}

/// Splits an absolute `http` or `https` URL into its origin and the rest.
fn split_origin(url: &[u8]) -> Option<(Origin<&[u8]>, &[u8])> {
    let has_scheme = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    let (is_tls, length) = match (has_scheme("http://"), has_scheme("https://")) {
        (true, _) => (false, 7),
        (_, true) => (true, 8),
        _ => return None,
    };
    let url = &url[length..];
    let end = url.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(url.len());
    let (authority, rest) = url.split_at(end);
    // A URL with userinfo is left alone: a path cannot carry the credentials.
    let is_plain = !authority.is_empty() && !authority.contains(&b'@');
    is_plain.then_some((Origin { is_tls, authority }, rest))
}

/// The path with its query and fragment. Two leading slashes, or what browsers read as such, would
/// name another host; a leading `/.` keeps it a path (WHATWG URL, section 4.5).
fn as_path(rest: &[u8]) -> Vec<u8> {
    let is_harmless = |byte: u8| byte.is_ascii_graphic() && !b"/\\".contains(&byte);
    match rest {
        [] => b"/".to_vec(),
        [b'/'] => b"/".to_vec(),
        [b'/', second, ..] if is_harmless(*second) => rest.to_vec(),
        [b'?' | b'#', ..] => [b"/", rest].concat(),
        _ => [b"/.", rest].concat(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Request};

    use super::{LocationRewriter, as_path};
    use crate::route::UpstreamAddress;

    fn upstream(text: &str) -> UpstreamAddress {
        let Some(text) = text.strip_prefix("http") else {
            return UpstreamAddress::Unix(text.into());
        };
        let is_tls = text.starts_with('s');
        let (host, port) = text.rsplit_once(':').expect("a port");
        let host = host.rsplit_once('/').expect("a scheme").1.to_owned();
        UpstreamAddress::Tcp { host, port: port.parse().expect("a number"), is_tls }
    }

    struct LocationCase {
        client: &'static str,
        backend_host: Option<&'static str>,
        upstream: &'static str,
    }

    impl LocationCase {
        /// Returns the field `name` with this URL, rewritten, in the response to `method`.
        fn rewritten(&self, method: &str, name: &'static str, address: &str) -> String {
            let (scheme, rest) = self.client.split_once("://").expect("a URL");
            let (host, path) = rest.split_once('/').expect("a path");
            let request = Request::builder()
                .method(method)
                .uri(format!("/{path}"))
                .header("host", self.backend_host.unwrap_or(host))
                .header("x-forwarded-host", host)
                .header("x-forwarded-proto", scheme);
            let rewriter =
                LocationRewriter::for_request(&request.body(()).expect("a request"), false)
                    .expect("a host");
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(address).expect("a value"));
            rewriter.rewrite(&mut headers, &upstream(self.upstream));
            headers[name].to_str().expect("text").to_owned()
        }
    }

    const PORT: LocationCase = LocationCase {
        client: "https://app.example/x?y",
        backend_host: None,
        upstream: "http://127.0.0.1:8081",
    };
    const OWN_NAME: LocationCase = LocationCase { backend_host: Some("inner.example:81"), ..PORT };
    const DEFAULT_PORT: LocationCase = LocationCase { upstream: "http://127.0.0.1:80", ..PORT };
    const ALL_TLS: LocationCase = LocationCase {
        client: "http://app.example:8080/x?y",
        backend_host: None,
        upstream: "https://127.0.0.1:443",
    };
    const SOCKET: LocationCase = LocationCase { upstream: "/run/app.sock", ..PORT };

    #[test]
    fn a_url_of_the_backend_becomes_a_path() {
        for (case, address, expected) in [
            (&PORT, "http://app.example:8081/a?b#c", "/a?b#c"),
            (&PORT, "HTTP://APP.example:8081", "/"),
            (&PORT, "http://app.example:8081?q", "/?q"),
            (&PORT, "http://127.0.0.1:8081/a", "/a"),
            (&PORT, "http://app.example:8081/x?y", "/x?y"),
            (&OWN_NAME, "http://inner.example:81/a", "/a"),
            (&OWN_NAME, "http://inner.example:8081/a", "/a"),
            (&OWN_NAME, "http://127.0.0.1:8081/a", "/a"),
            (&DEFAULT_PORT, "http://app.example/a", "/a"),
            (&DEFAULT_PORT, "http://app.example:80/a", "/a"),
            (&DEFAULT_PORT, "http://127.0.0.1/a", "/a"),
            (&ALL_TLS, "https://127.0.0.1/a", "/a"),
            (&SOCKET, "http://app.example/a", "/a"),
        ] {
            let rewritten = case.rewritten("GET", "location", address);
            assert_eq!(rewritten, expected, "{address} of {}", case.upstream);
            assert_eq!(case.rewritten("GET", "content-location", address), expected);
            assert_eq!(
                case.rewritten("GET", "refresh", &format!("5; url={address}")),
                format!("5; url={expected}")
            );
        }
    }

    #[test]
    fn any_other_url_is_left_unchanged() {
        for (case, address) in [
            (&PORT, "https://app.example/a"),
            (&PORT, "http://app.example/a"),
            (&PORT, "http://app.example:8082/a"),
            (&PORT, "https://app.example:8081/a"),
            (&PORT, "http://other.example:8081/a"),
            (&PORT, "http://me@app.example:8081/a"),
            (&PORT, "http://app.example:8081x/a"),
            (&PORT, "/a"),
            (&PORT, "a"),
            (&PORT, "//app.example:8081/a"),
            (&PORT, "ftp://app.example:8081/a"),
            (&PORT, "http://"),
            (&PORT, ""),
            // Rewriting a redirect to the requested URL itself would make a loop.
            (&DEFAULT_PORT, "http://app.example/x?y"),
            (&SOCKET, "http://app.example/x?y#z"),
            // Upgrades to HTTPS.
            (&ALL_TLS, "https://app.example/a"),
            (&ALL_TLS, "https://app.example/x?y"),
        ] {
            assert_eq!(case.rewritten("GET", "location", address), address, "{}", case.upstream);
        }
    }

    #[test]
    fn a_redirect_to_the_same_url_after_a_post_is_not_a_loop() {
        let after_post = DEFAULT_PORT.rewritten("POST", "location", "http://app.example/x?y");
        assert_eq!(after_post, "/x?y");
    }

    #[test]
    fn a_refresh_is_parsed_as_browsers_parse_it() {
        for (value, expected) in [
            ("0;URL='http://app.example:8081/a'", "0;URL=/a"),
            ("0, url = http://app.example:8081/a", "0, url=/a"),
            ("0; url http://app.example:8081/a", "0; url http://app.example:8081/a"),
            ("0; url=\"http://app.example:8081/a\" x", "0; url=/a"),
            ("0; url=/a", "0; url=/a"),
            ("5", "5"),
        ] {
            assert_eq!(PORT.rewritten("GET", "refresh", value), expected);
        }
    }

    #[test]
    fn a_path_never_names_another_host() {
        for (rest, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/a", "/a"),
            ("//evil.example", "/.//evil.example"),
            ("/\\evil.example", "/./\\evil.example"),
            ("\\\\evil.example", "/.\\\\evil.example"),
            ("/\t/evil.example", "/./\t/evil.example"),
            ("?//", "/?//"),
        ] {
            assert_eq!(as_path(rest.as_bytes()), expected.as_bytes());
        }
    }
}
