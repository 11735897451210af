//! Server-side TLS (rustls): a listener's configuration.
//!
//! TLS 1.2 and 1.3 with the provider's safe cipher suites, ALPN `h2` and `http/1.1`, and session
//! tickets, so that a returning client needs no full handshake. No early data: it can be replayed.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use super::certificate::{Certificate, CertificateSet, conflicts, local};
use super::settings::{CertificateFiles, TlsSettings};
use super::tls_error::TlsError;

/// The TLS of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// The configuration for rustls.
    pub config: Arc<ServerConfig>,
    /// The certificates it presents.
    pub certificates: Arc<CertificateSet>,
}

impl ListenerTls {
    /// Loads or generates the certificates, and builds the configuration.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let certificates = CertificateSet::new(certificates(settings)?).ok_or(TlsError::None)?;
        let certificates = Arc::new(certificates);
        let config = server_config(Arc::clone(&certificates)).map_err(TlsError::Provider)?;
        Ok(Self { config: Arc::new(config), certificates })
    }
}

/// Loads or generates only the certificates, the default first.
///
/// # Errors
/// See [`TlsError`].
pub fn certificates(settings: &TlsSettings) -> Result<Vec<Certificate>, TlsError> {
    match settings {
        TlsSettings::Files(files) => files.iter().map(open).collect(),
        TlsSettings::SelfSigned => Ok(vec![local::open()?]),
    }
}

/// Checks whether the certificates could be loaded or generated, without writing anything. Returns
/// warnings, such as that one expires soon, or that two have the same name.
///
/// # Errors
/// See [`TlsError`].
pub fn check(settings: &TlsSettings, now: SystemTime) -> Result<Vec<String>, TlsError> {
    let TlsSettings::Files(_) = settings else {
        return Ok(local::check(now)?.into_iter().collect());
    };
    let certificates = certificates(settings)?;
    let problem = |certificate: &Certificate| {
        Some(format!("{}: {}", certificate.path().display(), certificate.problem(now)?))
    };
    Ok(certificates.iter().filter_map(problem).chain(conflicts(&certificates)).collect())
}

fn open(CertificateFiles { certificate, key }: &CertificateFiles) -> Result<Certificate, TlsError> {
    Certificate::open(certificate, key)
}

fn server_config(certificates: Arc<CertificateSet>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A ticket key issues tickets for six hours and accepts them for six more. It survives a reload
    // but never leaves the process: after a restart or a takeover each client needs one full
    // handshake, and the drain spreads these. A ticket is valid on one listener only, and for the name
    // that its client has asked for. It is not bound to the certificate: a resumed handshake presents
    // none.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
