//! Resolves `proxy`: the backend of a route, its limits and its timeouts.

use std::path::PathBuf;

use http::HeaderValue;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::config::Purpose;
use crate::config::error::{Place, quoted};
use crate::config::field::{At, Field, OneOrMore};
use crate::config::file::{LocationFile, ProxyFile, UpstreamTlsFile};
use crate::route::{ProxySettings, UpstreamAddress, UpstreamTls};

use super::stream::StreamDefaults;
use super::{MAX_LENGTH, Resolver, authority};

/// A smaller limit would reject ordinary responses.
const MIN_RESPONSE_HEADER: usize = 1 << 10;
/// A larger limit would let a backend make every connection allocate that much.
const MAX_RESPONSE_HEADER: usize = 1 << 20;

impl Resolver<'_> {
    pub(super) fn proxy(
        &self,
        At { place, value: file }: At<ProxyFile>,
        streams: &StreamDefaults,
    ) -> Option<ProxySettings> {
        let defaults = ProxySettings::new(Vec::new());
        let upstreams = self.upstreams(file.upstream, &place, file.host.is_absent());
        let tls = self.upstream_tls(file.tls);
        let host = match file.host {
            Field::Absent => Some(None),
            field => field.written().and_then(|at| self.told(&at, host)).map(Some),
        };
        let stream_keep_alive = streams.stream().keep_alive;
        let stream_keep_alive = self.time_or_none(file.stream_keep_alive, stream_keep_alive);
        let settings = ProxySettings {
            is_http2: file.http2.or(false),
            rewrites_location: matches!(
                file.location.or(LocationFile::Rewrite),
                LocationFile::Rewrite
            ),
            allows_underscores: file.underscores_in_headers.or(false),
            max_connections: self.count(file.max_connections, defaults.max_connections),
            max_waiting: self.count(file.max_waiting, defaults.max_waiting),
            max_response_header: self.size(
                file.max_response_header,
                defaults.max_response_header,
                MIN_RESPONSE_HEADER,
                MAX_RESPONSE_HEADER,
            ),
            retry_idempotent: file.retry_idempotent.or(defaults.retry_idempotent),
            retry_buffer: self.size(file.retry_buffer, defaults.retry_buffer, 0, MAX_LENGTH),
            max_body: self.limit(file.max_body, self.max_body),
            connect_timeout: self.time(file.connect_timeout, defaults.connect_timeout),
            response_timeout: self.time(file.response_timeout, defaults.response_timeout),
            idle_timeout: self.time(file.idle_timeout, defaults.idle_timeout),
            keep_alive: self.time_or_none(file.keep_alive, defaults.keep_alive),
            stream_keep_alive: Some(stream_keep_alive).filter(|time| !time.is_zero()),
            p99_warning: self.time_or_off(file.p99_warning),
            fail_timeout: self.time_or_none(file.fail_timeout, defaults.fail_timeout),
            ..defaults
        };
        Some(ProxySettings { upstreams: upstreams?, tls: tls?, host: host?, ..settings })
    }

    fn upstreams(
        &self,
        field: Field<OneOrMore<String>>,
        proxy: &Place,
        keeps_host: bool,
    ) -> Option<Vec<UpstreamAddress>> {
        let what = "set the address of the backend, such as http://127.0.0.1:8000";
        let At { place, value: OneOrMore(items) } =
            self.required(field, proxy, "upstream", what)?;
        if items.is_empty() {
            self.note(&place, format!("the list is empty; {what}"));
        }
        let read = |item: Field<String>| {
            let at = item.written()?;
            let address = self.told(&at, authority::upstream)?;
            self.note_if_own(&at, &address, keeps_host);
            Some(address)
        };
        // Collected before the check, so that the mistakes of all items are noted.
        let addresses: Vec<_> = items.into_iter().map(read).collect();
        addresses.into_iter().collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
    }

    /// Notes an upstream that is this gateway. A request would match the same route again, in a loop,
    /// unless the route sets another host.
    fn note_if_own(&self, at: &At<String>, address: &UpstreamAddress, keeps_host: bool) {
        let UpstreamAddress::Tcp { host, port, .. } = address else { return };
        match self.own(host, *port) {
            Some(key) if key.starts_with("redis") => {
                let message = format!(
                    "{} is the embedded bus ({key}); set the address of an HTTP backend",
                    quoted(&at.value)
                );
                self.note(&at.place, message);
            }
            // Allowed: an operator may want to publish the metrics.
            Some(key) if key.starts_with("admin") => {}
            Some(key) if keeps_host => {
                let message = format!(
                    "{} is this gateway itself ({key}), so that requests would loop; set the address \
                     of the backend",
                    quoted(&at.value)
                );
                self.note(&at.place, message);
            }
            _ => {}
        }
    }

    fn upstream_tls(&self, field: Field<UpstreamTlsFile>) -> Option<UpstreamTls> {
        let At { place, value: file } = match field {
            Field::Absent => return Some(UpstreamTls::default()),
            field => field.written()?,
        };
        let is_unverified = file.insecure_skip_verify.or(false);
        if is_unverified && !file.ca.is_absent() {
            self.note(&place, "insecure_skip_verify: true ignores ca; set one of them");
        }
        let roots = match file.ca {
            Field::Absent => Some(Vec::new()),
            field => self.roots(field.written()?),
        };
        let server_name = match file.server_name {
            Field::Absent => Some(None),
            field => field.written().and_then(|at| self.told(&at, server_name)).map(Some),
        };
        Some(UpstreamTls { roots: roots?, server_name: server_name?, is_unverified })
    }

    fn roots(&self, at: At<PathBuf>) -> Option<Vec<CertificateDer<'static>>> {
        let place = at.place.clone();
        let path = self.file(at)?;
        if self.purpose == Purpose::Ask {
            return Some(Vec::new());
        }
        let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        match read {
            Ok(roots) if !Vec::is_empty(&roots) => Some(roots),
            Ok(_) => {
                self.note(&place, format!("no certificate in {}", path.display()));
                None
            }
            Err(error) => {
                self.note(&place, format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }
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
