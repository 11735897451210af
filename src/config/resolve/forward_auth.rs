//! Resolves `auth.forward`: the backend that decides who may make a request.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::uri::PathAndQuery;
use ssegate_strict_yaml::{At, Field, Sets as _, quoted};

use super::header_name;
use super::resolver::Resolver;
use super::upstream_address::upstream;
use crate::auth::{AuthPreset, ForwardAuth};
use crate::config::file::ForwardAuthFile;
use crate::upstream_address::{UpstreamAddress, UpstreamTls};

impl Resolver<'_> {
    pub(super) fn forward_auth(
        &self,
        At { location, value: file }: At<ForwardAuthFile>,
    ) -> Option<Arc<ForwardAuth>> {
        let mut settings = ForwardAuth {
            upstream: UpstreamAddress::Unix(Default::default()),
            tls: UpstreamTls::default(),
            target: String::new(),
            copy_headers: Vec::new(),
            id: None,
            cache: Duration::from_secs(10),
            recheck: Some(Duration::from_secs(60)),
            recheck_grace: Duration::from_secs(15 * 60),
            timeout: Duration::from_secs(5),
            preset: AuthPreset::Status,
        };
        file.set(&mut settings, &location, self.mistakes);
        let what = "set the URL that decides, such as http://127.0.0.1:8000/auth";
        let url = self.required(file.url, &location, "url", what);
        let url = url.and_then(|at| self.parse(&at, auth_url));
        let names = self.copied(file.copy_headers);
        let id = match file.id {
            Field::Absent => names.as_ref().and_then(|names| names.first().cloned()),
            field => {
                let at = field.written()?;
                let names = names.as_ref()?;
                let name = HeaderName::try_from(&at.value).ok().filter(|name| names.contains(name));
                if name.is_none() {
                    self.note(&at.location, "is not one of copy_headers; add it there");
                }
                Some(name?)
            }
        };
        if !file.ca.is_absent() {
            let at = file.ca.written()?;
            settings.tls.roots = self.roots(at)?;
        }
        (settings.upstream, settings.target) = url?;
        settings.copy_headers = names?;
        settings.id = id;
        Some(Arc::new(settings))
    }

    fn copied(&self, field: Field<Vec<Field<String>>>) -> Option<Vec<HeaderName>> {
        let Field::Written(At { value: items, .. }) = field else {
            return field.is_absent().then(Vec::new);
        };
        let name = |item: Field<String>| self.parse(&item.written()?, header_name::of_identity);
        let names: Vec<_> = items.into_iter().map(name).collect();
        names.into_iter().collect()
    }
}

/// The address and the target of a URL with a path.
fn auth_url(text: &str) -> Result<(UpstreamAddress, String), String> {
    const FORM: &str = "use a form like http://127.0.0.1:8000/auth";
    if text.starts_with("unix:") {
        return Err(format!("a Unix socket has no path for the question; {FORM}"));
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("is not a URL; {FORM}"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let is_target = target.parse::<PathAndQuery>().is_ok_and(|parsed| parsed.as_str() == target);
    if !is_target {
        return Err(format!("{} is not a path that can be asked for; {FORM}", quoted(&target)));
    }
    Ok((upstream(&format!("{scheme}://{authority}"))?, target))
}

#[cfg(test)]
mod tests {
    use super::auth_url;

    #[test]
    fn a_url_has_an_address_and_a_target() {
        for (url, address, target) in [
            ("http://127.0.0.1:8000/auth", "http://127.0.0.1:8000", "/auth"),
            ("https://login.example/check?x=1", "https://login.example:443", "/check?x=1"),
            ("http://login.example", "http://login.example:80", "/"),
            ("http://[::1]:9?x", "http://[::1]:9", "/?x"),
        ] {
            let (found, asked) = auth_url(url).expect(url);
            assert_eq!((found.to_string().as_str(), asked.as_str()), (address, target), "{url}");
        }
        for url in
            ["", "/auth", "ftp://a/b", "http://u:p@a/b", "http://a/b#c", "http://a/ b", "unix:/a"]
        {
            assert!(auth_url(url).is_err(), "{url}");
        }
    }
}
