//! Resolves `listeners`, `trusted_proxies` and `admin`: addresses and certificates.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use ipnet::IpNet;
use ssegate_strict_yaml::{At, Field, KeyLocation, OrOff};

use super::auth::ResolvedAuth;
use super::authority;
use super::resolver::Resolver;
use crate::admin::AdminSettings;
use crate::auth::MethodSettings;
use crate::config::file::{AdminFile, AuthFile, ListenerFile, TlsFile};
use crate::server::certificate::Certificate;
use crate::server::{ListenerSettings, TlsSettings};

/// The default address of the admin listener.
pub(crate) const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9464));

impl Resolver<'_> {
    pub(super) fn listeners(
        &mut self,
        field: Field<Vec<Field<ListenerFile>>>,
    ) -> Vec<ListenerSettings> {
        const WHAT: &str = "add a listener, such as `- address: 127.0.0.1:8080`";
        let Some(At { location, value }) =
            self.required(field, &KeyLocation::default(), "listeners", WHAT)
        else {
            return Vec::new();
        };
        if value.is_empty() {
            self.note(&location, format!("the list is empty; {WHAT}"));
        }
        value.into_iter().filter_map(|item| self.listener(item.written()?)).collect()
    }

    fn listener(
        &mut self,
        At { location, value: file }: At<ListenerFile>,
    ) -> Option<ListenerSettings> {
        let tls = match file.tls {
            Field::Absent => Some(None),
            field => field.written().and_then(|tls| self.tls(tls)).map(Some),
        };
        let what = "set the address to listen on, such as 127.0.0.1:8080";
        let address = self.required(file.address, &location, "address", what);
        let proxy_protocol = file.proxy_protocol.written();
        if let Some(At { location, value: true }) = &proxy_protocol
            && self.trusts_no_proxy
        {
            self.note(location, "no proxy is trusted; add the load balancer to trusted_proxies");
        }
        let proxy_protocol = proxy_protocol.is_some_and(|at| at.value);
        Some(ListenerSettings { address: self.address(&address?)?, tls: tls?, proxy_protocol })
    }

    pub(super) fn trusted_proxies(&mut self, field: Field<Vec<Field<String>>>) -> Vec<IpNet> {
        self.trusts_no_proxy = match &field {
            Field::Absent => true,
            Field::Invalid(_) => false,
            Field::Written(at) => at.value.is_empty(),
        };
        let networks = field.or_default().into_iter().filter_map(Field::written);
        networks.filter_map(|at| self.parse(&at, authority::network)).collect()
    }

    pub(super) fn admin(&mut self, field: Field<OrOff<AdminFile>>) -> Option<AdminSettings> {
        let file = match field {
            Field::Absent => AdminFile::default(),
            field => match field.value()? {
                OrOff::Off => return None,
                OrOff::On(file) => file,
            },
        };
        let address = match file.address {
            Field::Absent => {
                self.claim_address(DEFAULT_ADMIN, &KeyLocation::default().child("admin.address"));
                Some(DEFAULT_ADMIN)
            }
            field => field.written().and_then(|at| self.address(&at)),
        };
        let hosts = file.hosts.or_default().into_iter().filter_map(Field::written);
        let hosts = hosts.filter_map(|at| self.parse(&at, authority::host)).collect();
        let auth = self.admin_auth(file.auth);
        Some(AdminSettings { address: address?, hosts, auth: auth?, page_publishes: false })
    }

    fn admin_auth(&self, field: Field<OrOff<Box<AuthFile>>>) -> ResolvedAuth {
        let location = field.location().cloned();
        let auth = self.auth(field, &Some(None))?;
        if let (Some(location), Some(auth)) = (location, &auth) {
            let of_routes = |method: &&MethodSettings| {
                matches!(method, MethodSettings::SignedUrl(_) | MethodSettings::Forward(_))
            };
            if auth.methods().iter().any(of_routes) {
                self.note(
                    &location,
                    "forward and signed_url are for routes; set tokens, basic or jwt",
                );
            }
            if auth.max_streams.is_some() {
                self.note(&location.child("max_streams"), "there are no streams here; remove it");
            }
        }
        Some(auth)
    }

    fn address(&mut self, at: &At<String>) -> Option<SocketAddr> {
        let address = self.parse(at, authority::address)?;
        self.claim_address(address, &at.location);
        Some(address)
    }

    fn tls(&self, At { location, value: file }: At<TlsFile>) -> Option<TlsSettings> {
        if matches!(file.self_signed, Field::Invalid(_)) {
            return None;
        }
        let self_signed = file.self_signed.or(false);
        match (self_signed, file.certificate, file.key) {
            (true, Field::Absent, Field::Absent) => Some(TlsSettings::SelfSigned),
            (true, ..) => {
                self.note(
                    &location,
                    "self_signed: true excludes certificate and key; use one or the other",
                );
                None
            }
            (false, Field::Absent, Field::Absent) => {
                self.note(
                    &location,
                    "no certificate; set self_signed: true, or certificate and key",
                );
                None
            }
            (false, certificate, key) => self.certificate_files(certificate, key, &location),
        }
    }

    fn certificate_files(
        &self,
        certificate: Field<PathBuf>,
        key: Field<PathBuf>,
        tls: &KeyLocation,
    ) -> Option<TlsSettings> {
        let certificate = self.required(
            certificate,
            tls,
            "certificate",
            "set the path of this key's certificate",
        );
        let key = self.required(key, tls, "key", "set the path of this certificate's private key");
        // Checks both files before returning on a mistake in either.
        let [certificate, key] =
            [certificate, key].map(|at| at.map(|at| (at.location.clone(), self.readable_file(at))));
        let ((certificate_location, certificate), (key_location, key)) = (certificate?, key?);
        let (certificate, key) = (certificate?, key?);
        if self.purpose.reads_files()
            && let Err(error) = Certificate::open(&certificate, &key)
        {
            let location = if error.is_key_fault() { key_location } else { certificate_location };
            self.note(&location, error.to_string());
            return None;
        }
        Some(TlsSettings::Files { certificate, key })
    }
}
