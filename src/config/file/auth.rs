//! `auth`: who may make the requests of a route.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use ssegate_strict_yaml::{Count, Field, OneOrMore, Time, TimeOrZero, mapping, sets};

use crate::auth::{AuthPreset, ForwardAuth, JwtAuth};

/// Who may make the requests: one method, or several under `any` or `all`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Auth")]
pub(crate) struct AuthFile {
    /// A backend decides: it is asked with the credentials of the request.
    pub(crate) forward: Field<ForwardAuthFile>,
    /// JSON Web Tokens.
    pub(crate) jwt: Field<JwtFile>,
    /// URLs that carry their own permission, signed with HMAC-SHA256.
    pub(crate) signed_url: Field<SignedUrlFile>,
    /// Static tokens for machines, of which only the hashes are kept.
    pub(crate) tokens: Field<Vec<Field<StaticTokenFile>>>,
    /// Names and passwords.
    pub(crate) basic: Field<BasicFile>,
    /// One of these is enough.
    pub(crate) any: Field<Vec<Field<Box<Self>>>>,
    /// All of these are needed.
    pub(crate) all: Field<Vec<Field<Box<Self>>>>,
    /// The most streams and WebSockets of one identity at the same time. Default: no limit.
    pub(crate) max_streams: Field<Count>,
}

mapping! {
    /// A backend that decides. 2xx allows a request; 401 and 403 are passed on to the client; a redirect is
    /// passed on to pages, and is 401 for streams. Anything else is "not now".
    #[schemars(rename = "ForwardAuth", extend("required" = ["url"]))]
    pub(crate) struct ForwardAuthFile sets ForwardAuth {
        /// Where it is asked: `http://127.0.0.1:8000/auth`. It gets the cookies and `Authorization` of the
        /// request, and its method and target as `X-Original-Method` and `X-Original-URI`, and as
        /// `X-Forwarded-Method` and `X-Forwarded-Uri`.
        url: String,
        /// Trusted CA certificates of an `https://` URL. Default: those of the system.
        ca: PathBuf,
        /// The header fields of its response that fill `{auth.NAME}` in templates, and are passed on to the
        /// backend of a proxy route.
        copy_headers: Vec<Field<String>>,
        /// The one of them that identifies the client: `{auth.id}`. Default: the first.
        id: String,
        /// How long a permission is used again for a request with the same credentials and target. 0s: not
        /// at all, but for requests at the same time. Default: `10s`.
        cache: TimeOrZero => cache,
        /// How often it is asked again while a stream is open. 0s: never. Default: `60s`.
        recheck: TimeOrZero => recheck,
        /// A stream ends when there was no verdict for this long. Default: `15m`.
        recheck_grace: TimeOrZero => recheck_grace,
        /// The longest time for its response. Default: `5s`.
        timeout: Time => timeout,
        /// How it is asked, and how its response is read: `status`, or `laravel` for `/broadcasting/auth`.
        /// Default: `status`.
        preset: AuthPresetFile => preset,
    }
}

/// How an auth backend is asked, and how its response is read.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AuthPreset")]
pub(crate) enum AuthPresetFile {
    /// Once for a request; the status decides.
    Status,
    /// Once for each private or presence channel, as `channel_name`; the body decides.
    Laravel,
}

sets! {
    AuthPresetFile => AuthPreset = |word| match word {
        AuthPresetFile::Status => AuthPreset::Status,
        AuthPresetFile::Laravel => AuthPreset::Laravel,
    };
}

mapping! {
    /// JSON Web Tokens (RFC 7519).
    #[schemars(rename = "Jwt", extend("required" = ["algorithms"]))]
    pub(crate) struct JwtFile sets JwtAuth {
        /// The keys, of which any may have signed a token: secrets, plain or after `base64:`, or public keys
        /// in PEM.
        keys: OneOrMore<String>,
        /// Files with public keys or certificates in PEM.
        key_files: OneOrMore<PathBuf>,
        /// A file with a JSON Web Key Set, or its URL, from which the keys are fetched at the start and every
        /// ten minutes.
        jwks: String,
        /// A PEM file with the certificates to trust for that URL. Default: those of the system.
        jwks_ca: PathBuf,
        /// The algorithms with which a token may be signed: HS256, HS384, HS512, RS256, RS384, RS512, PS256,
        /// PS384, PS512, ES256, ES384, EdDSA.
        algorithms: OneOrMore<String>,
        /// The claim `iss` must be one of these. Default: any or none.
        issuer: OneOrMore<String>,
        /// The claim `aud` must name one of these. Default: a token for a named audience is refused.
        audience: OneOrMore<String>,
        /// The header `typ` must be one of these. Default: `JWT`, `at+jwt` or none.
        types: OneOrMore<String>,
        /// Whether a token without `exp` is accepted. Default: `false`.
        never_expires: bool => rules.may_never_expire,
        /// By how much the clocks of issuer and gateway may differ. Default: `30s`.
        leeway: TimeOrZero => rules.leeway,
        /// Where a request may carry the token: `bearer`, `cookie:NAME` or `query:NAME`. The first place that
        /// has one is used. Default: `bearer`.
        from: OneOrMore<String>,
        /// A token in a cookie that expired by less than this gets 200, `retry` and the end of the
        /// stream, so that an `EventSource` comes back with the next one. Default: `0s`.
        renew: TimeOrZero => renew,
    }
}

mapping! {
    /// URLs that carry their own permission.
    #[schemars(rename = "SignedUrl", extend("required" = ["keys"]))]
    pub(crate) struct SignedUrlFile sets () {
        /// The secrets by name: at least 32 bytes, plain or after `base64:`.
        keys: BTreeMap<String, Field<String>>,
    }
}

mapping! {
    /// A static token.
    #[schemars(rename = "StaticToken", extend("required" = ["name", "sha256"]))]
    pub(crate) struct StaticTokenFile sets () {
        /// Who presents it.
        name: String,
        /// Its SHA-256 in hexadecimal digits, as `printf %s "$TOKEN" | sha256sum` prints it.
        sha256: String,
    }
}

mapping! {
    /// Names and passwords (RFC 7617).
    #[schemars(rename = "Basic", extend("required" = ["users"]))]
    pub(crate) struct BasicFile sets () {
        /// A file of names and bcrypt or argon2id hashes, as `htpasswd -B` writes it.
        users: PathBuf,
        /// What the browser says the password is for. Default: `ssegate`.
        realm: String,
    }
}
