//! Who may make a request: its credential, verified, and what it says.
//!
//! [`settings`] is the `auth` of a route, and an [`Authenticator`] applies it. Each method has a file of its
//! own: [`jwt`], with the key sets of [`jwks`], [`signed_url`], [`tokens`],
//! [`basic`]; what a credential has to look like is the business of
//! `ssegate_auth`. The result is [`Access`]: an identity and its end. What the identity says fills channel
//! names and header fields ([`placeholder`], [`header_template`]). [`origin`] tells the pages of other sites
//! from a site's own. [`stream_quota`] bounds the streams of one identity.
//!
//! Does not know routes, channels or responses.

mod access;
mod authenticator;
mod basic;
mod header_template;
mod jwks;
mod jwt;
pub mod origin;
mod passwords;
mod placeholder;
mod request;
mod settings;
mod shared;
mod signed_url;
mod stream_quota;
mod tokens;

pub use access::{Access, Denial};
pub use authenticator::Authenticator;
pub use header_template::HeaderTemplate;
pub use jwks::{
    JwksErrorKind, JwksLocation, KeySetRunner, KeysSnapshot, NewerKeys, RemoteKeySets, RemoteKeys,
    UsedKeys,
};
pub use passwords::{PasswordVerifier, Users, Verdict};
pub use placeholder::{NotLiteral, Placeholder};
pub use request::AuthRequest;
pub use settings::{AuthSettings, BasicAuth, JwtAuth, MethodSettings, Requirement, TokensAuth};
pub use shared::SharedAuth;
pub use stream_quota::{QuotaGuard, StreamQuota};
