//! Server-side TLS (rustls): a listener's configuration.
//!
//! TLS 1.2 and 1.3 with the provider's safe cipher suites, ALPN `h2` and `http/1.1`, and session
//! tickets, so that a returning client needs no full handshake. No early data: it can be replayed.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use super::certificate::{Certificate, local};
use super::settings::TlsSettings;
use super::tls_error::TlsError;

/// The TLS of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// The configuration for rustls.
    pub config: Arc<ServerConfig>,
    /// The certificate it presents.
    pub certificate: Arc<Certificate>,
}

impl ListenerTls {
    /// Loads or generates the certificate, and builds the configuration.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let certificate = Arc::new(certificate(settings)?);
        let config = server_config(Arc::clone(&certificate)).map_err(TlsError::Provider)?;
        Ok(Self { config: Arc::new(config), certificate })
    }
}

/// Loads or generates only the certificate.
///
/// # Errors
/// See [`TlsError`].
pub fn certificate(settings: &TlsSettings) -> Result<Certificate, TlsError> {
    match settings {
        TlsSettings::Files { certificate, key } => Certificate::open(certificate, key),
        TlsSettings::SelfSigned => local::open(),
    }
}

/// Checks whether the certificate could be loaded or generated, without writing anything. Returns a
/// warning, such as that it expires soon.
///
/// # Errors
/// See [`TlsError`].
pub fn check(settings: &TlsSettings, now: SystemTime) -> Result<Option<String>, TlsError> {
    match settings {
        TlsSettings::Files { certificate, key } => {
            let problem = Certificate::open(certificate, key)?.problem(now);
            Ok(problem.map(|problem| format!("{}: {problem}", certificate.display())))
        }
        TlsSettings::SelfSigned => local::check(now),
    }
}

fn server_config(certificate: Arc<Certificate>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A ticket key issues tickets for six hours and accepts them for six more. It survives a reload
    // but never leaves the process: after a restart or a takeover each client needs one full
    // handshake, and the drain spreads these. A ticket is valid on one listener only. It is not
    // bound to the certificate: a resumed handshake presents none.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
