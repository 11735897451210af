//! Header fields that only the gateway may send to a backend: those that tell it who a request is from.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::settings::{RouteSettings, Target};
use crate::auth::MethodSettings;

/// The names of such fields, of all routes together: a backend that trusts one trusts it on every route
/// that leads to it. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct ReservedHeaders(Arc<[HeaderName]>);

impl ReservedHeaders {
    pub(super) fn of<'a>(routes: impl Iterator<Item = &'a RouteSettings>) -> Self {
        let mut names: Vec<HeaderName> = Vec::new();
        for route in routes {
            let passed = match &route.target {
                Target::Proxy(proxy) => &*proxy.pass,
                Target::Events(_) | Target::Publish(_) | Target::Demo => &[],
            };
            let methods = route.auth.iter().flat_map(|auth| auth.methods());
            let copied = methods.flat_map(MethodSettings::copied_headers);
            for name in passed.iter().map(|(name, _)| name).chain(copied) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        Self(names.into())
    }

    /// Removes the fields of a client with these names, also those that CGI reads as one of them. `x_user`
    /// is `x-user` to PHP, WSGI and Rack; PHP reads `x.user` so, too, and lighttpd any name that has
    /// another character in the place of the hyphen.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let is_reserved = |name: &HeaderName| {
            let hyphened = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
            let same = |other: &HeaderName| {
                let (name, other) = (name.as_str().bytes(), other.as_str().bytes());
                name.map(hyphened).eq(other.map(hyphened))
            };
            self.0.iter().any(same)
        };
        let named: Vec<HeaderName> =
            headers.keys().filter(|name| is_reserved(name)).cloned().collect();
        for name in named {
            headers.remove(name);
        }
    }
}
