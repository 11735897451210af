//! Resolves `proxy`: the backend of a route, its limits and its timeouts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use ssegate_strict_yaml::{At, Field, KeyLocation, OneOrMore, Sets as _, quoted};

use super::header_name;
use super::resolver::Resolver;
use super::upstream_address::upstream;
use crate::auth::HeaderTemplate;
use crate::bounded_file;
use crate::config::file::{ProxyFile, UpstreamTlsFile};
use crate::config::stream_options::StreamOptions;
use crate::route::{ProxySettings, UpstreamAddress, UpstreamTls};

impl Resolver<'_> {
    pub(super) fn proxy(
        &self,
        At { location, value: file }: At<ProxyFile>,
        streams: &StreamOptions,
        has_auth: bool,
    ) -> Option<ProxySettings> {
        let mut settings = ProxySettings {
            max_body: self.max_body,
            stream_keep_alive: Some(streams.stream.keep_alive),
            ..ProxySettings::new(Vec::new())
        };
        file.set(&mut settings, &location, self.mistakes);
        let upstreams = self.upstreams(file.upstream, &location, file.host.is_absent());
        let tls = self.upstream_tls(file.tls);
        let pass = self.pass(file.pass, has_auth);
        let host = match file.host {
            Field::Absent => Some(None),
            field => field.written().and_then(|at| self.parse(&at, host)).map(Some),
        };
        Some(ProxySettings {
            upstreams: upstreams?,
            tls: tls?,
            host: host?,
            pass: pass?,
            ..settings
        })
    }

    /// The header fields that tell the backend who it is.
    fn pass(
        &self,
        field: Field<BTreeMap<String, Field<String>>>,
        has_auth: bool,
    ) -> Option<Vec<(HeaderName, HeaderTemplate)>> {
        let Some(At { location, value: fields }) = field.written() else { return Some(Vec::new()) };
        if !has_auth {
            self.note(&location, "needs auth on the route, or for the whole file");
        }
        let field = |(name, field): (String, Field<String>)| {
            let at = field.written()?;
            let name = header_name::of_identity(&name)
                .map_err(|message| self.note(&at.location, message))
                .ok()?;
            Some((name, self.parse(&at, HeaderTemplate::parse)?))
        };
        let fields: Vec<_> = fields.into_iter().map(field).collect();
        fields.into_iter().collect()
    }

    fn upstreams(
        &self,
        field: Field<OneOrMore<String>>,
        proxy: &KeyLocation,
        keeps_host: bool,
    ) -> Option<Vec<UpstreamAddress>> {
        let what = "set the address of the backend, such as http://127.0.0.1:8000";
        let At { location, value: OneOrMore(items) } =
            self.required(field, proxy, "upstream", what)?;
        if items.is_empty() {
            self.note(&location, format!("the list is empty; {what}"));
        }
        let read = |item: Field<String>| {
            let at = item.written()?;
            let address = self.parse(&at, upstream)?;
            self.check_not_own(&at, &address, keeps_host);
            Some(address)
        };
        // Collected before the check, so that the mistakes of all items are noted.
        let addresses: Vec<_> = items.into_iter().map(read).collect();
        addresses.into_iter().collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
    }

    /// Notes an upstream that is this gateway. A request would match the same route again, in a loop,
    /// unless the route sets another host.
    pub(super) fn check_not_own(
        &self,
        at: &At<String>,
        address: &UpstreamAddress,
        keeps_host: bool,
    ) {
        let UpstreamAddress::Tcp { host, port, .. } = address else { return };
        match self.addresses.key_reached_by(host, *port) {
            Some(key) if key.starts_with("redis") => {
                let message = format!(
                    "{} is the embedded bus ({key}); set the address of an HTTP backend",
                    quoted(&at.value)
                );
                self.note(&at.location, message);
            }
            // Allowed: an operator may want to publish the metrics. `ssegate check` warns.
            Some(key) if key.starts_with("admin") => {}
            Some(key) if keeps_host => {
                let message = format!(
                    "{} is this gateway itself ({key}), so that requests would loop; set the address \
                     of the backend",
                    quoted(&at.value)
                );
                self.note(&at.location, message);
            }
            _ => {}
        }
    }

    fn upstream_tls(&self, field: Field<UpstreamTlsFile>) -> Option<UpstreamTls> {
        let At { location, value: file } = match field {
            Field::Absent => return Some(UpstreamTls::default()),
            field => field.written()?,
        };
        let is_unverified = file.insecure_skip_verify.or(false);
        if is_unverified && !file.ca.is_absent() {
            self.note(&location, "insecure_skip_verify: true ignores ca; set one of them");
        }
        let roots = match file.ca {
            Field::Absent => Some(Vec::new()),
            field => self.roots(field.written()?),
        };
        let server_name = match file.server_name {
            Field::Absent => Some(None),
            field => field.written().and_then(|at| self.parse(&at, server_name)).map(Some),
        };
        Some(UpstreamTls { roots: roots?, server_name: server_name?, is_unverified })
    }

    /// The certificates in a PEM file, of which there is at least one.
    pub(super) fn roots(&self, at: At<PathBuf>) -> Option<Vec<CertificateDer<'static>>> {
        let location = at.location.clone();
        let path = self.readable_file(at)?;
        if !self.purpose.reads_files() {
            return Some(Vec::new());
        }
        match certificates(&path) {
            Ok(roots) if !roots.is_empty() => Some(roots),
            Ok(_) => {
                self.note(&location, format!("no certificate in {}", path.display()));
                None
            }
            Err(error) => {
                self.note(&location, format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bounded_file::read(path).map_err(|error| error.to_string())?;
    let certificates: Result<_, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    certificates.map_err(|error| error.to_string())
}

fn host(text: &str) -> Result<HeaderValue, String> {
    let authority: Result<http::uri::Authority, _> = text.parse();
    let value = authority.ok().filter(|_| !text.contains('@')).and_then(|_| text.parse().ok());
    value.ok_or_else(|| {
        format!("{} is not a host; use forms like app.example or app.example:8080", quoted(text))
    })
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned())
        .map_err(|_| format!("{} is not a host name; write it like app.example", quoted(text)))
}
