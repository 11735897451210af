//! Resolves `listeners`, `trusted_proxies` and `admin`: addresses, and what is accepted there.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use ipnet::IpNet;
use ssegate_strict_yaml::{At, Field, KeyLocation, OrOff};

use super::auth::ResolvedAuth;
use super::authority;
use super::resolver::Resolver;
use crate::admin::AdminSettings;
use crate::auth::MethodSettings;
use crate::config::file::{AdminFile, AuthFile, ListenerFile};
use crate::server::ListenerSettings;

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
}
