//! `ssegate sign`: signs a URL, which then is its own permission until it expires.

use std::time::{Duration, SystemTime};

use clap::Args;
use http::uri::PathAndQuery;
use http::{Method, Uri};
use ssegate_auth::signed_url::{self, SignedRequest, UrlKey};

use super::secret::SecretOption;
use super::{CliError, duration, output};

const KEY: SecretOption = SecretOption { option: "--key", variable: "SSEGATE_URL_KEY" };

/// Sign a URL
///
/// Prints the URL with its expiry, the name of the key and a signature. A route with
/// auth.signed_url and the same key lets in whoever has it, until it expires. A backend makes such
/// URLs itself: examples/signed-url has how, in PHP, Python and Node.
///
/// Other users of the machine see arguments in ps, and the shell keeps them: give the key as
/// NAME=@FILE or in the variable SSEGATE_URL_KEY.
#[derive(Args, Debug)]
pub(crate) struct SignCommand {
    /// The URL as clients request it, with all of its query
    #[arg(value_name = "URL")]
    url: String,
    /// The name of the key and its secret, of at least 32 bytes [env: SSEGATE_URL_KEY]
    #[arg(long, value_name = "NAME=SECRET|NAME=@FILE")]
    key: Option<String>,
    /// When it expires, from now on
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1h")]
    expires: Duration,
    /// The method of the request; one for GET serves HEAD, too
    #[arg(long, value_name = "METHOD", value_parser = method, default_value = "GET")]
    method: Method,
}

impl SignCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let usage = |error: &str| CliError::Usage(format!("the URL {error}"));
        let url = SignableUrl::parse(&self.url).map_err(|error| usage(&error))?;
        let expires = SystemTime::now().checked_add(self.expires);
        let expires = expires.ok_or_else(|| CliError::Usage("--expires: too far away".into()))?;
        let signed = url.sign(&self.method, &self.key()?, expires);
        output::line(signed.ok_or_else(|| usage("is signed already"))?)
    }

    fn key(&self) -> Result<UrlKey, CliError> {
        let form = || {
            CliError::Usage(format!(
                "give the key: --key NAME=@FILE, or the variable {}",
                KEY.variable
            ))
        };
        let text = KEY.text(self.key.as_deref())?.ok_or_else(form)?;
        let (name, secret) = text.split_once('=').ok_or_else(form)?;
        let secret = KEY.resolve(secret)?;
        UrlKey::new(name, &secret).ok_or_else(|| match secret.len() < UrlKey::MIN_BYTES {
            true => CliError::Usage(
                "--key: the secret has fewer than 32 bytes; openssl rand -hex 32 makes one".into(),
            ),
            false => CliError::Usage(
                "--key: a name has letters, digits, - and _ and nothing else".into(),
            ),
        })
    }
}

/// Parses a method. They are written in capitals (RFC 9110, section 9.1).
fn method(text: &str) -> Result<Method, String> {
    let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes());
    method.map_err(|_| "use a method such as GET or POST".into())
}

/// An absolute URL that browsers send as it is written.
struct SignableUrl {
    /// Scheme and authority, as they are written.
    origin: String,
    host: String,
    path_and_query: String,
}

impl SignableUrl {
    /// The error says what is wrong with the URL.
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('#') {
            return Err("has a fragment (#), which no server sees".into());
        }
        let uri: Uri = text.parse().map_err(|_| "is not valid".to_owned())?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
        let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
            return Err("is not absolute; use https://host/path".into());
        };
        if authority.as_str().contains('@') {
            return Err("has a user or password, which browsers do not send in it".into());
        }
        let mut path_and_query = uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        if !path_and_query.starts_with('/') {
            // Without a path, that is what is requested (RFC 9112, section 3.2.1).
            path_and_query.insert(0, '/');
        }
        if let Some(rewritten) = rewritten(&path_and_query) {
            return Err(rewritten);
        }
        Ok(Self {
            origin: format!("{scheme}://{authority}"),
            host: authority.host().to_owned(),
            path_and_query,
        })
    }

    fn sign(&self, method: &Method, key: &UrlKey, expires: SystemTime) -> Option<String> {
        let request = SignedRequest {
            method: method.as_str(),
            host: &self.host,
            path_and_query: &self.path_and_query,
        };
        let signed = signed_url::sign(request, key, expires)?;
        Some(format!("{}{signed}", self.origin))
    }
}

/// What a browser sends in another form than it is written (WHATWG URL, section 4.4): its signature would
/// be of something else.
fn rewritten(path_and_query: &str) -> Option<String> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let is_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    if path.split('/').any(is_dots) {
        return Some("has a segment . or .., which browsers resolve".into());
    }
    let in_path = path.chars().find(|c| "\"<>^`{}\\".contains(*c) || !c.is_ascii());
    let in_query = || query.chars().find(|c| "\"<>'".contains(*c) || !c.is_ascii());
    let c = in_path.or_else(in_query)?;
    let mut bytes = [0; 4];
    let escaped: String = c.encode_utf8(&mut bytes).bytes().map(|b| format!("%{b:02X}")).collect();
    Some(format!("has a {c}, which browsers rewrite; write it as {escaped}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::Method;
    use ssegate_auth::signed_url::{self, SignedRequest, UrlKey};

    use super::SignableUrl;

    #[test]
    fn a_url_is_signed_as_its_host_and_path_arrive() {
        let key = UrlKey::new("k1", &[7; 32]).expect("a key");
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (url, origin, host, path) in [
            ("https://App.example:8443/e?a=1", "https://App.example:8443", "app.example", "/e?a=1"),
            ("http://[::1]:80/a%2Fb", "http://[::1]:80", "[::1]:80", "/a%2Fb"),
            ("http://a.example", "http://a.example", "a.example", "/"),
            ("http://a.example?x", "http://a.example", "a.example", "/?x"),
            ("https://a.example/x?f={a}|b", "https://a.example", "a.example", "/x?f={a}|b"),
        ] {
            let signed = SignableUrl::parse(url).expect(url).sign(&Method::GET, &key, expires);
            let signed = signed.expect("it has no signature");
            let path_and_query = signed.strip_prefix(origin).expect(&signed);
            assert!(path_and_query.starts_with(path), "{signed}");
            let request = SignedRequest { method: "GET", host, path_and_query };
            let verified =
                signed_url::verify(request, std::slice::from_ref(&key), SystemTime::UNIX_EPOCH);
            assert!(verified.is_ok(), "{signed}: {verified:?}");
        }
    }

    #[test]
    fn what_browsers_would_change_is_not_signed() {
        for (url, expected) in [
            ("https://a.example/e#top", "has a fragment"),
            ("/events", "is not absolute"),
            ("ftp://a.example/", "is not absolute"),
            ("a.example", "is not absolute"),
            ("https://user:word@a.example/", "has a user or password"),
            ("https://a.example/a/../b", "has a segment"),
            ("https://a.example/%2E/b", "has a segment"),
            ("https://a.example/a b", "is not valid"),
            ("https://a.example/{a}", "write it as %7B"),
            ("https://a.example/?a='b'", "write it as %27"),
            ("https://a.example/ü", "write it as %C3%BC"),
        ] {
            let error = SignableUrl::parse(url).err().unwrap_or_default();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }
}
