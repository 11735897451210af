//! `listeners`, `admin` and `redis`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use ssegate_strict_yaml::{Field, OrOff};

use super::auth::AuthFile;

/// An address to listen on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Listener", extend("required" = ["address"]))]
pub(crate) struct ListenerFile {
    /// IP address and port: `127.0.0.1:8080`, `0.0.0.0:443`, `[::]:443`. Port 0: a free port.
    pub(crate) address: Field<String>,
    /// HTTPS, with HTTP/2 and HTTP/1.1. Without it: HTTP/1.1, and h2c with prior knowledge.
    pub(crate) tls: Field<TlsFile>,
    /// Whether every connection starts with a PROXY protocol header, version 1 or 2. Only
    /// `trusted_proxies` may connect then.
    pub(crate) proxy_protocol: Field<bool>,
}

/// The certificate: `self_signed: true`, or `certificate` and `key`, or several in `certificates`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(crate) struct TlsFile {
    /// A self-signed certificate, generated once and stored in the state directory of the user.
    pub(crate) self_signed: Field<bool>,
    /// A PEM file with the certificate and its chain, reloaded when it changes. Relative paths start at
    /// the directory of this file.
    pub(crate) certificate: Field<PathBuf>,
    /// A PEM file with the private key.
    pub(crate) key: Field<PathBuf>,
    /// Several certificates, instead of one. A client is shown the one with the name that it asks for
    /// (SNI), else one with a wildcard for it, else the first.
    pub(crate) certificates: Field<Vec<Field<CertificateFile>>>,
}

/// One of several certificates.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Certificate", extend("required" = ["certificate", "key"]))]
pub(crate) struct CertificateFile {
    /// A PEM file with the certificate and its chain, reloaded when it changes. Relative paths start at
    /// the directory of this file.
    pub(crate) certificate: Field<PathBuf>,
    /// A PEM file with the private key.
    pub(crate) key: Field<PathBuf>,
}

/// The admin listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(crate) struct AdminFile {
    /// IP address and port.
    pub(crate) address: Field<String>,
    /// Host names to accept, besides localhost and IP addresses: `[ssegate]`.
    pub(crate) hosts: Field<Vec<Field<String>>>,
    /// Who may read the metrics and the status page: `tokens`, `basic` or `jwt`. Default: everybody who
    /// reaches it.
    pub(crate) auth: Field<OrOff<Box<AuthFile>>>,
}

/// The source of events.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Redis", extend("oneOf" = [{ "required": ["url"] }, { "required": ["shards"] }]))]
pub(crate) struct RedisFile {
    /// `redis://user:password@host:6379/0`, `rediss://…` for TLS, `redis+unix:///run/redis.sock`,
    /// `redis+sentinel://host:26379,host:26379/mymaster` for the master that sentinels name,
    /// `redis+cluster://host:6379,host:6379` for a Cluster, or
    /// `embedded://127.0.0.1:6380` for a small bus inside the gateway. Required without `shards`.
    pub(crate) url: Field<String>,
    /// Further servers by name, each with a URL as `url`. A route with `redis: NAME` has its channels there.
    pub(crate) named: Field<BTreeMap<String, Field<String>>>,
    /// Instead of `url`: several servers, among which the channels are divided by their names.
    #[schemars(length(min = 2))]
    pub(crate) shards: Field<Vec<Field<String>>>,
}
