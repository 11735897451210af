//! The files of the status page. All of them are in the program: the page loads nothing from elsewhere.

use std::hash::Hasher as _;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use siphasher::sip::SipHasher13;

/// No script and no style but the files of the page, nothing from other origins, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static str,
}

/// What `/` responds to browsers.
pub(super) const PAGE: Asset =
    Asset { path: "/", kind: "text/html; charset=utf-8", content: include_str!("page/index.html") };

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The styles and scripts of the page. They contain nothing about this gateway, so they need no credential.
const PARTS: [Asset; 9] = [
    Asset { path: "/page/status.css", kind: STYLE, content: include_str!("page/status.css") },
    Asset { path: "/page/status.js", kind: SCRIPT, content: include_str!("page/status.js") },
    Asset { path: "/page/stream.js", kind: SCRIPT, content: include_str!("page/stream.js") },
    Asset { path: "/page/charts.js", kind: SCRIPT, content: include_str!("page/charts.js") },
    Asset { path: "/page/follow.js", kind: SCRIPT, content: include_str!("page/follow.js") },
    Asset { path: "/page/format.js", kind: SCRIPT, content: include_str!("page/format.js") },
    Asset {
        path: "/page/uplot/uPlot.iife.min.js",
        kind: SCRIPT,
        content: include_str!("page/uplot/uPlot.iife.min.js"),
    },
    Asset {
        path: "/page/uplot/uPlot.min.css",
        kind: STYLE,
        content: include_str!("page/uplot/uPlot.min.css"),
    },
    Asset { path: "/page/uplot/LICENSE", kind: TEXT, content: include_str!("page/uplot/LICENSE") },
];

impl Asset {
    /// The file that the page refers to by this path.
    pub(super) fn at(path: &str) -> Option<Self> {
        PARTS.into_iter().find(|asset| asset.path == path)
    }

    /// Responds with the file, or 304 if the client has it.
    pub(super) fn respond(self, request: &HeaderMap) -> Response<Full<Bytes>> {
        let tag = self.tag();
        let is_known = is_known(request, &tag);
        let content = if is_known { "" } else { self.content };
        let mut response = Response::new(Full::new(Bytes::from_static(content.as_bytes())));
        let headers = response.headers_mut();
        if !is_known {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        }
        // `no-cache`: browsers revalidate each time, so that after an upgrade a page and its parts have the same
        // version.
        for (name, value) in [
            (CACHE_CONTROL, "no-cache"),
            (VARY, "Accept"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(ETAG, HeaderValue::from_str(&tag).expect("a quoted number"));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    }

    fn tag(self) -> String {
        let mut hasher = SipHasher13::new();
        hasher.write(self.content.as_bytes());
        format!("\"{:016x}\"", hasher.finish())
    }
}

/// Whether `If-None-Match` of the request matches this tag (RFC 9110, section 13.1.2).
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let tags = request.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut tags = tags.flat_map(|tags| tags.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH};
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::{Asset, PAGE, PARTS, is_known};

    #[test]
    fn the_page_names_the_parts_that_there_are_and_its_policy_allows_nothing_inline() {
        for attribute in ["src=\"", "href=\""] {
            for named in PAGE.content.split(attribute).skip(1) {
                let path = named.split('"').next().expect("the end of the value");
                let is_page = path.starts_with('/') && !path.starts_with("/page/");
                let is_here = is_page || path.starts_with('#') || path.starts_with("data:");
                assert!(is_here || Asset::at(path).is_some(), "{path}");
            }
        }
        for inline in ["<style", " style=", " onclick=", "<script>", "http://", "https://"] {
            let found = PAGE.content.matches(inline).count();
            let allowed = PAGE.content.matches("xmlns='http://www.w3.org/2000/svg'").count();
            let allowed = if inline == "http://" { allowed } else { 0 };
            assert_eq!(found, allowed, "{inline}");
        }
        let response = PAGE.respond(&HeaderMap::new());
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
    }

    #[test]
    fn the_page_is_small_and_its_charts_have_their_licence_beside_them() {
        let own = PARTS.into_iter().chain([PAGE]).filter(|asset| !asset.path.contains("/uplot/"));
        let bytes: usize = own.map(|asset| asset.content.len()).sum();
        assert!(bytes < 46 << 10, "{bytes} bytes");
        let licence = Asset::at("/page/uplot/LICENSE").expect("the licence");
        assert!(
            licence.content.contains("MIT License") && licence.content.contains("Leon Sorokin")
        );
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let tag = PAGE.respond(&HeaderMap::new()).headers()[ETAG].clone();
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, tag);
        assert_eq!(PAGE.respond(&headers).status(), StatusCode::NOT_MODIFIED);
        for (sent, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
        ] {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(sent));
            assert_eq!(is_known(&headers, "\"a\""), expected, "{sent}");
        }
    }
}
