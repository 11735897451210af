//! The `auth` of a route, as gateway.yaml says it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ssegate_auth::jwt::{JwtSettings, KeySet};
use ssegate_auth::password::Passwords;
use ssegate_auth::signed_url::UrlKey;
use ssegate_auth::static_token::StaticToken;
use ssegate_auth::{AuthMethod, TokenPlace};

use super::jwks::JwksLocation;
use crate::upstream_address::{UpstreamAddress, UpstreamTls};

/// Who may make the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// What a request has to show.
    pub requirement: Requirement,
    /// The most streams and WebSockets of one identity at the same time, over all routes; `None`: no limit.
    pub max_streams: Option<usize>,
}

/// What a request has to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// A credential of this method.
    One(MethodSettings),
    /// One of these; at least one.
    Any(Vec<Self>),
    /// All of these; at least one. The first that names somebody says who it is.
    All(Vec<Self>),
}

/// A method of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodSettings {
    /// JSON Web Tokens.
    Jwt(Box<JwtAuth>),
    /// URLs that carry their own permission, signed with one of these keys.
    SignedUrl(Vec<UrlKey>),
    /// Static tokens for machines.
    Tokens(TokensAuth),
    /// Names and passwords.
    Basic(BasicAuth),
    /// A backend decides.
    Forward(Arc<ForwardAuth>),
}

/// JSON Web Tokens: where they stand, and what they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtAuth {
    /// The keys, of which any may have signed a token.
    pub keys: KeySet,
    /// Where more keys are fetched from.
    pub jwks: Option<JwksLocation>,
    /// What a token must satisfy.
    pub rules: JwtSettings,
    /// Where a request may carry it. The first place that has one is used.
    pub places: Vec<TokenPlace>,
    /// A token in a cookie that expired by less than this is "not now" rather than 401: the page may be about
    /// to renew it, and an `EventSource` gives up for good on a 401.
    pub renew: Duration,
}

/// Static tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokensAuth {
    /// The tokens.
    pub known: Vec<StaticToken>,
    /// Where a request may carry one.
    pub places: Vec<TokenPlace>,
}

/// A backend that decides upon each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    /// Where it is.
    pub upstream: UpstreamAddress,
    /// How its certificate is verified.
    pub tls: UpstreamTls,
    /// The path, and perhaps a query, of the request to it.
    pub target: String,
    /// The header fields of its response that fill templates and are passed on to the backend of a route.
    pub copy_headers: Vec<HeaderName>,
    /// The header field of its response that says who the request is from.
    pub id: Option<HeaderName>,
    /// How long a permission is used again for the same request.
    pub cache: Duration,
    /// How often it is asked again while a stream is open; `None`: never.
    pub recheck: Option<Duration>,
    /// A stream ends when there was no verdict for this long.
    pub recheck_grace: Duration,
    /// The longest time for its response.
    pub timeout: Duration,
    /// The form of the question, and how the response is read.
    pub preset: AuthPreset,
}

/// The form of the question to an auth backend, and how its response is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthPreset {
    /// One question for a request, with its target; the status decides.
    #[default]
    Status,
    /// Laravel's `/broadcasting/auth`: one question for each private or presence channel, as `channel_name`. The body
    /// decides: with a broadcaster that does nothing (`null`, `log`) Laravel responds 200 to everybody.
    Laravel,
}

/// Names and passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The users and their hashes. `None` where the files of a configuration are not read: nobody is let in.
    pub users: Option<Arc<Passwords>>,
    /// What the browser says the password is for (RFC 7617, section 2).
    pub realm: String,
}

impl AuthSettings {
    /// All methods, in the order of the file.
    pub fn methods(&self) -> Vec<&MethodSettings> {
        self.requirement.methods()
    }
}

impl Requirement {
    fn methods(&self) -> Vec<&MethodSettings> {
        match self {
            Self::One(method) => vec![method],
            Self::Any(parts) | Self::All(parts) => parts.iter().flat_map(Self::methods).collect(),
        }
    }
}

impl MethodSettings {
    /// Which method it is.
    pub fn method(&self) -> AuthMethod {
        match self {
            Self::Jwt(_) => AuthMethod::Jwt,
            Self::SignedUrl(_) => AuthMethod::SignedUrl,
            Self::Tokens(_) => AuthMethod::Token,
            Self::Basic(_) => AuthMethod::Basic,
            Self::Forward(_) => AuthMethod::Forward,
        }
    }

    /// The header fields of a response of this method that are passed on to the backend of a route.
    pub fn copied_headers(&self) -> &[HeaderName] {
        match self {
            Self::Forward(backend) => &backend.copy_headers,
            Self::Basic(_) | Self::Jwt(_) | Self::SignedUrl(_) | Self::Tokens(_) => &[],
        }
    }

    /// The places in which a request may carry a token of this method.
    pub fn places(&self) -> &[TokenPlace] {
        match self {
            Self::Jwt(jwt) => &jwt.places,
            Self::Tokens(tokens) => &tokens.places,
            Self::SignedUrl(_) | Self::Basic(_) | Self::Forward(_) => &[],
        }
    }
}
