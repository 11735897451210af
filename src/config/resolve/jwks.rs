//! Resolves `jwks`: a file with a set of keys, or a URL from which the gateway fetches it.

use std::path::PathBuf;

use http::Uri;
use ssegate_strict_yaml::{At, Field, KeyLocation, quoted};

use super::authority;
use super::resolver::Resolver;
use crate::auth::JwksLocation;
use crate::config::file::JwtFile;

/// Where `jwks` says that keys are; one of the two, or none.
#[derive(Debug, Default)]
pub(super) struct JwksPlace {
    /// The file.
    pub(super) file: Option<At<PathBuf>>,
    /// The URL, and whom to trust there.
    pub(super) remote: Option<JwksLocation>,
}

impl Resolver<'_> {
    /// Takes `jwks` and `jwks_ca` out of `file`. `None` after a mistake.
    pub(super) fn jwks_place(
        &self,
        file: &mut JwtFile,
        location: &KeyLocation,
    ) -> Option<JwksPlace> {
        let (jwks, ca) = (std::mem::take(&mut file.jwks), std::mem::take(&mut file.jwks_ca));
        let jwks = match jwks {
            Field::Absent => None,
            field => Some(field.written()?),
        };
        let url = match &jwks {
            Some(at) if at.value.contains("://") => Some(self.parse(at, url)?),
            _ => None,
        };
        let is_tls = url.as_ref().is_some_and(|url| url.scheme_str() == Some("https"));
        if let Some(location) = ca.location().filter(|_| !is_tls) {
            self.note(location, "is for a jwks with https://; remove it");
            return None;
        }
        let Some(url) = url else {
            let file = jwks.map(|At { location, value }| At { location, value: value.into() });
            return Some(JwksPlace { file, remote: None });
        };
        if file.audience.is_absent() {
            // Others have tokens that are signed with the same keys.
            let message = "missing; set whom the tokens are for, since the keys of a URL sign tokens for \
                           other services too";
            self.note(&location.child("audience"), message);
        }
        let roots = match ca {
            Field::Absent => Vec::new(),
            ca => self.roots(ca.written()?)?,
        };
        Some(JwksPlace { file: None, remote: Some(JwksLocation { url, roots }) })
    }
}

fn url(text: &str) -> Result<Uri, String> {
    const FORM: &str = "use a file, or forms like https://id.example/.well-known/jwks.json";
    // A user and a password, and what may be a secret in the query, are not repeated.
    let shown = quoted(text.split('?').next().unwrap_or_default());
    let (_, rest) = text.split_once("://").unwrap_or_default();
    if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
        return Err("a user and a password are not supported in the URL of keys".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| format!("{shown} is not a URL; {FORM}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("{shown} is not an HTTP URL; {FORM}"));
    }
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    authority::port(authority.ok_or_else(|| format!("{shown} has no host; {FORM}"))?)?;
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn the_url_of_keys_has_a_host_and_no_user() {
        for good in ["https://id.example/jwks?tenant=a", "http://127.0.0.1:8000", "HTTPS://a/"] {
            assert!(url(good).is_ok(), "{good}");
        }
        for (text, hint) in [
            ("ftp://id.example/jwks?hunter2", "\"ftp://id.example/jwks\" is not an HTTP URL"),
            ("https://me:hunter2@id.example/", "a user and a password are not supported"),
            ("https:///jwks", "use a file, or forms like"),
            ("https://id.example:99999/", "\"99999\" is not a valid port"),
            ("https://id example/", "is not a URL"),
        ] {
            let message = url(text).expect_err(text);
            assert!(message.contains(hint) && !message.contains("hunter2"), "{text}: {message}");
        }
    }
}
