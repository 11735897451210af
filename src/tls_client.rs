//! TLS as a client: whom we trust when we connect to others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
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
    let believed = match trust {
        Trust::SystemRootsAnd(others) if others.is_empty() => {
            return builder.with_root_certificates(system_roots()).with_no_client_auth();
        }
        Trust::Anybody => Believed::Anyone,
        Trust::SystemRootsAnd(others) => {
            let roots = with(RootCertStore::clone(&system_roots()), &others);
            Believed::Named(Named::new(roots, others, &provider))
        }
        Trust::Only(these) => {
            let roots = with(RootCertStore::empty(), &these);
            Believed::Named(Named::new(roots, these, &provider))
        }
    };
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { believed, provider }))
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
fn with(mut roots: RootCertStore, others: &[CertificateDer<'static>]) -> RootCertStore {
    roots.add_parsable_certificates(others.iter().cloned());
    roots
}

/// Servers whose certificates these have signed, and those that show one of these itself, as OpenSSL and
/// curl take them: `openssl req -x509` makes a certificate that is its own authority, and webpki does not
/// take that for a server's.
#[derive(Debug)]
struct Named {
    these: Vec<CertificateDer<'static>>,
    // `None`: there is no root that can be read.
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl Named {
    fn new(
        roots: RootCertStore,
        these: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let roots = Arc::new(roots);
        let chains = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
        Self { these, chains: chains.build().ok() }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chains = self.chains.as_ref();
        let chains =
            chains.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let verified =
            chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(error) if is_of_the_chain(&error) && self.these.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }
}

/// Whether webpki finds nothing wrong with the certificate itself, and takes it for no server's or knows
/// nobody who has signed it. Its validity is looked at before that.
fn is_of_the_chain(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            // The type is that of a crate that we do not name.
            other.to_string().contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

/// The servers that are believed.
#[derive(Debug)]
enum Believed {
    /// Each that holds the key of the certificate it shows.
    Anyone,
    Named(Named),
}

/// Verifies the certificate of a server, and that it holds the key.
#[derive(Debug)]
struct Verifier {
    believed: Believed,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.believed {
            Believed::Anyone => Ok(ServerCertVerified::assertion()),
            Believed::Named(named) => {
                named.verify(end_entity, intermediates, server_name, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
