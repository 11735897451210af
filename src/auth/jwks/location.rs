//! Where a set of keys is fetched from.

use std::fmt;

use http::Uri;
use rustls_pki_types::CertificateDer;

/// Where a set of keys is fetched from, and which certificates are trusted there.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksLocation {
    /// An `http` or `https` URL without a user.
    pub url: Uri,
    /// The certificates to trust; empty: those of the system.
    pub roots: Vec<CertificateDer<'static>>,
}

impl JwksLocation {
    /// Whether somebody on the network could replace the keys: there is no TLS, and the host is another machine.
    pub fn is_exposed(&self) -> bool {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        self.url.scheme_str() != Some("https") && !is_loopback
    }
}

/// The URL without its query, which may hold a secret.
impl fmt::Display for JwksLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.url.scheme_str().unwrap_or_default(), self.url.path())
    }
}

impl fmt::Debug for JwksLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JwksLocation").field(&self.to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::JwksLocation;

    #[test]
    fn keys_are_exposed_on_their_way_from_another_machine_without_tls() {
        for (url, is_exposed) in [
            ("https://id.example/jwks", false),
            ("http://127.0.0.1:8000/jwks", false),
            ("http://[::1]/jwks", false),
            ("http://localhost/jwks", false),
            ("http://10.0.0.1/jwks", true),
            ("http://localhost.id.example/jwks", true),
        ] {
            let location = JwksLocation { url: url.parse().expect(url), roots: Vec::new() };
            assert_eq!(location.is_exposed(), is_exposed, "{url}");
            assert_eq!(location.to_string(), url);
        }
    }

    #[test]
    fn a_secret_in_the_query_is_not_shown() {
        let url = "https://id.example:8443/jwks?key=hunter2".parse().expect("a URL");
        let location = JwksLocation { url, roots: Vec::new() };
        assert_eq!(format!("{location:?}"), "JwksLocation(\"https://id.example:8443/jwks\")");
    }
}
