//! The `auth` of a route, on one shard.

use super::auth_backends::AuthBackends;
use crate::auth::Authenticator;

/// The `auth` of a route, with this shard's connections to the backends that decide.
pub(super) struct RouteAuth {
    pub(super) authenticator: Authenticator,
    pub(super) backends: AuthBackends,
}
