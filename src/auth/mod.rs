//! Who may make a request: its credential, verified, and what it says.
//!
//! [`settings`] is the `auth` of a route, and an [`Authenticator`] applies it. Each method has a file of its own:
//! [`forward`] ([`laravel`]), [`jwt`], with the key sets of [`jwks`], [`signed_url`], [`tokens`], [`basic`];
//! `ssegate_auth` defines the syntax of credentials. The result is [`Access`]: an identity and its end. The identity
//! fills channel names and header fields ([`placeholder`], [`header_template`]). [`origin`] tells the pages of other
//! sites from a site's own. [`stream_quota`] bounds the streams of one identity. [`revocations`] are credentials that
//! no longer count.
//!
//! Does not know routes, channels or responses.

mod access;
mod authenticator;
mod basic;
mod forward;
mod header_template;
mod jwks;
mod jwt;
pub mod laravel;
pub mod origin;
mod passwords;
mod placeholder;
mod question_text;
mod request;
mod revocation_settings;
mod revocations;
mod settings;
mod shared;
mod signed_url;
mod stream_quota;
mod tokens;
mod verdict;
mod verdict_cache;

pub use access::{Access, Denial};
pub use authenticator::Authenticator;
pub use forward::{AskBackend, NoBackends};
pub use header_template::HeaderTemplate;
pub use jwks::{
    JwksErrorKind, JwksLocation, KeySetRunner, KeysSnapshot, NewerKeys, RemoteKeySets, RemoteKeys,
    UsedKeys, fetch_keys,
};
pub use passwords::{PasswordVerdict, PasswordVerifier, Users};
pub use placeholder::{NotLiteral, Placeholder};
pub use question_text::{QuestionBuffer, QuestionSite, QuestionText, WrittenQuestion};
pub use request::AuthRequest;
pub use revocation_settings::{ControlSettings, RevocationSettings};
pub use revocations::{EndedStreams, RevocationNotice, RevocationOrigin, Revocations};
pub use settings::{
    AuthPreset, AuthSettings, BasicAuth, ForwardAuth, JwtAuth, MethodSettings, Requirement,
    TokensAuth,
};
pub use shared::SharedAuth;
pub use stream_quota::{QuotaGuard, StreamQuota};
pub use verdict::{AuthResponse, Verdict};
pub use verdict_cache::{CacheKey, Lookup, Question, VerdictCache};
