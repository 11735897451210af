//! Parses the address of a backend.

use http::Uri;
use ssegate_strict_yaml::quoted;

use super::authority::port;
use crate::route::UpstreamAddress;

/// Parses the address of a backend: `http://host[:port]`, `https://host[:port]`, or `unix:/path`, as a
/// route's `proxy.upstream`.
///
/// # Errors
/// A message that says what is wrong and how to fix it.
pub fn upstream(text: &str) -> Result<UpstreamAddress, String> {
    const FORM: &str = "use forms like http://127.0.0.1:8000";
    if let Some(path) = text.strip_prefix("unix:") {
        // `unix:///run/app.sock` is a common form too.
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path.starts_with('/') {
            true => Ok(UpstreamAddress::Unix(path.into())),
            false => {
                Err(format!("{} has no absolute path; write unix:/run/app.sock", quoted(text)))
            }
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match format!("http://{text}").parse::<Uri>() {
            Ok(uri) if !text.is_empty() && !text.contains('@') => {
                let uri = uri.to_string();
                format!("{} is not a URL; write {}", quoted(text), uri.trim_end_matches('/'))
            }
            _ => format!("{} is not a URL; {FORM}", quoted(text)),
        });
    };
    let (is_tls, default_port) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        "h2c" => return Err(format!("write http://{rest} and set http2: true")),
        _ => return Err(format!("{} is not an HTTP URL; {FORM}", quoted(text))),
    };
    if rest.contains('@') {
        return Err("a user and a password are not supported in an upstream".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| format!("{} is not a URL; {FORM}", quoted(text)))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| format!("{} has no host; {FORM}", quoted(text)))?;
    let port = port(authority)?.unwrap_or(default_port);
    match uri.path_and_query().map_or("/", |path| path.as_str()) {
        "/" => {
            let host = authority.host().trim_matches(['[', ']']).to_owned();
            Ok(UpstreamAddress::Tcp { host, port, is_tls })
        }
        _ => Err(format!(
            "{} has a path; the path of the request is forwarded unchanged, so write \
             {scheme}://{authority}",
            quoted(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::upstream;

    #[test]
    fn upstreams_are_urls_or_sockets() {
        for (text, expected) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://backend/", "http://backend:80"),
            ("https://backend", "https://backend:443"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("unix:/run/php.sock", "unix:/run/php.sock"),
            ("unix:///run/php.sock", "unix:/run/php.sock"),
        ] {
            assert_eq!(upstream(text).expect(text).to_string(), expected);
        }
        for (text, hint) in [
            ("unix:run/php.sock", "write unix:/run/app.sock"),
            ("h2c://backend:80", "write http://backend:80 and set http2: true"),
            ("127.0.0.1:8000", "write http://127.0.0.1:8000"),
            ("backend", "write http://backend"),
            ("ftp://backend", "is not an HTTP URL"),
            ("http://", "use forms like"),
            ("http://backend:99999", "\"99999\" is not a valid port"),
            ("http://backend:x", "has no valid port"),
            ("https://backend/api", "write https://backend"),
            ("http://me:pw@backend", "a user and a password are not supported"),
            ("", "use forms like"),
        ] {
            let message = upstream(text).expect_err(text);
            assert!(message.contains(hint), "{text}: {message}");
            assert!(!message.contains("pw"), "{message}");
        }
    }
}
