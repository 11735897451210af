//! Which pages a request comes from: the site's own, or those of another site.
//!
//! A browser sends cookies and passwords by itself, also where the page of another site makes the request. It names
//! the origin of that page in `Origin` (Fetch standard, section 3.2) and, to trustworthy addresses, its relation to
//! the target in `Sec-Fetch-Site` (Fetch Metadata). A GET without `Origin` comes from the site's own page: browsers
//! omit the field only there, as long as the page can read the response at all.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName};

use super::request::AuthRequest;

/// <https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request comes from a page of another origin. `null`, the origin of a sandboxed page, is another
/// one, and so is another host of the same site. `is_tls`: its connection uses TLS.
pub fn is_foreign(request: AuthRequest<'_>, is_tls: bool) -> bool {
    let mut origins = request.headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return false };
    if origins.next().is_some() {
        return true;
    }
    if is_same_origin(request.headers) {
        return false;
    }
    let Ok(origin) = origin.to_str() else { return true };
    let own = match origin.split_once("://") {
        Some(("https", authority)) => Some((authority, "443")),
        // Behind a proxy that terminates TLS our own scheme is http, whatever the page's is.
        Some(("http", authority)) if !is_tls => Some((authority, "80")),
        _ => None,
    };
    !own.is_some_and(|(authority, port)| {
        without_default_port(authority, port)
            .eq_ignore_ascii_case(without_default_port(request.host(), port))
    })
}

/// Whether the browser says that a request without `Origin` comes from another site, or from another host of the same
/// site: a page can make it (`fetch` with `no-cors`) without being able to read the response. Only for streams: links
/// and images on other sites are legitimate.
pub fn is_foreign_site(request: AuthRequest<'_>) -> bool {
    let mut sites = request.headers.get_all(SEC_FETCH_SITE).iter();
    sites.any(|site| site == "cross-site" || site == "same-site")
        && !request.headers.contains_key(ORIGIN)
}

/// Whether the browser itself says that the page is of the same origin. No page can set this field.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(SEC_FETCH_SITE).iter();
    matches!((values.next(), values.next()), (Some(site), None) if site == "same-origin")
}

fn without_default_port<'a>(authority: &'a str, port: &str) -> &'a str {
    let name = authority.strip_suffix(port).and_then(|name| name.strip_suffix(':'));
    name.unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{is_foreign, is_foreign_site};
    use crate::auth::AuthRequest;

    #[test]
    fn only_pages_of_the_same_origin_are_a_sites_own() {
        for (origin, host, site, is_tls, expected) in [
            ("", "app.example", "", true, false),
            ("https://app.example", "app.example", "", true, false),
            ("https://app.example", "APP.example:443", "", true, false),
            ("https://app.example:8443", "app.example:8443", "", true, false),
            ("https://app.example", "app.example:8443", "", true, true),
            ("https://app.example:8443", "app.example", "", true, true),
            ("http://app.example", "app.example", "", true, true),
            ("http://app.example", "app.example", "", false, false),
            ("http://app.example", "app.example:80", "", false, false),
            ("https://app.example", "app.example", "", false, false),
            ("https://api.app.example", "app.example", "", true, true),
            ("https://app.example.evil.example", "app.example", "", true, true),
            ("https://evilapp.example", "app.example", "", true, true),
            ("null", "app.example", "", true, true),
            ("null", "", "", true, true),
            ("app.example", "app.example", "", true, true),
            ("https://app.example/", "app.example", "", true, true),
            ("https://other.example", "internal:8080", "same-origin", false, false),
            ("https://other.example", "app.example", "same-site", true, true),
            ("https://other.example", "app.example", "cross-site", true, true),
        ] {
            let mut request = Request::get("/").header("host", host);
            for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
                if !value.is_empty() {
                    request = request.header(name, value);
                }
            }
            let request = request.body(()).expect("a request");
            let is_foreign = is_foreign(AuthRequest::new(&request), is_tls);
            assert_eq!(is_foreign, expected, "{origin} {host} {site} {is_tls}");
        }
        for (site, expected) in
            [("same-origin", false), ("none", false), ("cross-site", true), ("same-site", true)]
        {
            let request =
                Request::get("/").header("sec-fetch-site", site).body(()).expect("a request");
            assert_eq!(is_foreign_site(AuthRequest::new(&request)), expected, "{site}");
        }
        let two = Request::get("/").header("host", "a").header("origin", "http://a");
        let two = two.header("origin", "http://b").body(()).expect("a request");
        assert!(is_foreign(AuthRequest::new(&two), false));
    }
}
