//! Path and query of a request, without the secrets in them.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::kept_address::{self, MASK};

/// Names of parameters that carry credentials somewhere: a parameter whose name contains one of these is masked, in
/// upper or lower case, with or without hyphens and underscores. A parameter that no route reads may still be a secret.
const SECRET_WORDS: [&str; 14] = [
    "apikey",
    "auth",
    "bearer",
    "credential",
    "eventid",
    "jwt",
    "otp",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];
/// Secret names that are too short to be searched for within other names.
const SECRET_NAMES: [&str; 9] =
    ["code", "hmac", "key", "pass", "pwd", "sid", "sig", "state", "ticket"];

/// What every JSON Web Token begins with: `{"` in base64url.
const TOKEN_START: &str = "eyJ";

/// The names of query parameters that are secrets on some route. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct SecretParameters(Arc<[String]>);

impl SecretParameters {
    /// Masks these names, in addition to those that are always secret.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into())
    }

    /// Returns path and query with the addresses of kept streams and the values of secret parameters masked.
    pub(super) fn mask<'a>(&self, target: &'a str) -> Cow<'a, str> {
        match kept_address::mask(target.as_bytes()) {
            Cow::Borrowed(_) => self.mask_query(target),
            Cow::Owned(masked) => {
                let masked = String::from_utf8_lossy(&masked);
                Cow::Owned(self.mask_query(&masked).into_owned())
            }
        }
    }

    fn mask_query<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
        let mut masked = String::with_capacity(target.len());
        masked.push_str(path);
        masked.push('?');
        // Some backends treat `;` as `&`.
        for part in query.split_inclusive(['&', ';']) {
            let (pair, separator) = match part.strip_suffix(['&', ';']) {
                Some(pair) => (pair, &part[pair.len()..]),
                None => (part, ""),
            };
            match pair.split_once('=') {
                Some((name, value)) if self.is_secret(name) || is_token(value) => {
                    masked.push_str(name);
                    masked.push('=');
                    masked.push_str(MASK);
                }
                None if is_token(pair) => masked.push_str(MASK),
                _ => masked.push_str(pair),
            }
            masked.push_str(separator);
        }
        Cow::Owned(masked)
    }

    fn is_secret(&self, name: &str) -> bool {
        let name = percent_decode_str(name).decode_utf8_lossy();
        // PHP and Rails read `name[]` and `name[key]` as parts of `name`.
        let base = name.split('[').next().unwrap_or_default();
        if self.0.iter().any(|known| known.eq_ignore_ascii_case(base)) {
            return true;
        }
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let plain = plain.to_ascii_lowercase();
        SECRET_NAMES.contains(&&*plain) || SECRET_WORDS.iter().any(|word| plain.contains(word))
    }
}

/// Returns the address of a page without its query, which may have the secrets of any site, and without a user.
pub(super) fn page(referer: &[u8]) -> Vec<u8> {
    let end = referer.iter().position(|byte| b"?#".contains(byte)).unwrap_or(referer.len());
    kept_address::mask(&without_user(&referer[..end])).into_owned()
}

/// Returns a URL or a host without `user:password@` in front of the host.
pub(super) fn without_user(url: &[u8]) -> Vec<u8> {
    let host = memchr::memmem::find(url, b"//").map_or(0, |at| at + 2);
    let end = url[host..].iter().position(|byte| *byte == b'/').map_or(url.len(), |at| host + at);
    match memchr::memrchr(b'@', &url[host..end]) {
        Some(at) => [&url[..host], &url[host + at + 1..]].concat(),
        None => url.to_vec(),
    }
}

/// Whether the value looks like a JSON Web Token.
fn is_token(value: &str) -> bool {
    percent_decode_str(value).decode_utf8_lossy().contains(TOKEN_START)
}

#[cfg(test)]
mod tests {
    use super::{SecretParameters, page, without_user};

    #[test]
    fn secrets_in_the_query_are_masked() {
        let parameters = SecretParameters::new(["tk".to_owned(), "Pass-Me".to_owned()]);
        for (target, expected) in [
            ("/events/news", "/events/news"),
            ("/events?channel=a&channel=b", "/events?channel=a&channel=b"),
            ("/?tk=S&x=1", "/?tk=***&x=1"),
            ("/?%74k=S", "/?%74k=***"),
            ("/?TK=S", "/?TK=***"),
            ("/?tk[]=S&tk[a]=S", "/?tk[]=***&tk[a]=***"),
            ("/?pass-me=S", "/?pass-me=***"),
            ("/?x=1;tk=S", "/?x=1;tk=***"),
            ("/?exp=9&kid=k1&sig=S", "/?exp=9&kid=k1&sig=***"),
            (
                "/?last_event_id=S&lastEventId=S&Last-Event-ID=S",
                "/?last_event_id=***&lastEventId=***&Last-Event-ID=***",
            ),
            (
                "/?access_token=S&id%5Ftoken=S&X-Amz-Signature=S",
                "/?access_token=***&id%5Ftoken=***&X-Amz-Signature=***",
            ),
            (
                "/?api-key=S&authorization=S&password=S&sid=S",
                "/?api-key=***&authorization=***&password=***&sid=***",
            ),
            ("/?x=eyJhbGciOi.x.y&eyJhbGciOi.x.y", "/?x=***&***"),
            ("/?q=%65yJhbGciOi", "/?q=***"),
            ("/?", "/?"),
            ("/?&=&a", "/?&=&a"),
            ("/?monkey=1&keyboard=1", "/?monkey=1&keyboard=1"),
            ("/.ssegate/kept/abc?key=S&x=1", "/.ssegate/kept/***?key=***&x=1"),
        ] {
            assert_eq!(parameters.mask(target), expected);
        }
    }

    #[test]
    fn a_page_is_named_without_query_and_user() {
        for (referer, expected) in [
            ("https://app.example/a?token=S", "https://app.example/a"),
            ("https://app.example/a#S", "https://app.example/a"),
            ("https://u:S@app.example/a@b", "https://app.example/a@b"),
            ("u:S@app.example", "app.example"),
            ("https://app.example/.ssegate/kept/S", "https://app.example/.ssegate/kept/***"),
            ("", ""),
        ] {
            assert_eq!(page(referer.as_bytes()), expected.as_bytes(), "{referer}");
        }
        assert_eq!(without_user(b"u:S@app.example:80"), b"app.example:80");
    }
}
