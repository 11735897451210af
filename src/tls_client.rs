//! TLS as a client: whom we trust when we connect to others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::Instant;

/// For so long the roots of the system are taken as they were read.
const ROOTS_AGE: Duration = Duration::from_secs(10);

/// Whom a client of ours believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any certificate at all, because the user said so.
    Anybody,
    /// The roots of the system (or of `SSL_CERT_FILE`), and these certificates.
    SystemRootsAnd(Vec<CertificateDer<'static>>),
    /// These certificates alone.
    Only(Vec<CertificateDer<'static>>),
}

/// A client without ALPN and without a certificate of its own.
pub fn config(trust: Trust) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has the ciphers of TLS 1.2 and 1.3");
    match trust {
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        }
        Trust::SystemRootsAnd(others) => {
            let roots = system_roots();
            if others.is_empty() {
                builder.with_root_certificates(roots)
            } else {
                builder.with_root_certificates(with(RootCertStore::clone(&roots), others))
            }
        }
        Trust::Only(these) => builder.with_root_certificates(with(RootCertStore::empty(), these)),
    }
    .with_no_client_auth()
}

/// The roots of the system, shared by all who want them at about the same time: the upstreams of a start
/// or a reload, on each shard. Later they are read again, as they may have changed.
fn system_roots() -> Arc<RootCertStore> {
    static NEWEST: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, roots)) = newest.as_ref().filter(|(read, _)| read.elapsed() < ROOTS_AGE) {
        return Arc::clone(roots);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let roots = Arc::new(roots);
    *newest = Some((Instant::now(), Arc::clone(&roots)));
    roots
}

/// Certificates that cannot be read are left out: a server that needs one is refused later.
fn with(mut roots: RootCertStore, others: Vec<CertificateDer<'static>>) -> RootCertStore {
    roots.add_parsable_certificates(others);
    roots
}

/// Whoever answers is believed, but must hold the key of the certificate shown.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
