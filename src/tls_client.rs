//! Client-side TLS (rustls): which server certificates an outgoing connection trusts.
//!
//! Used for backends, for Redis and by the commands. Knows nothing of what is sent over the
//! connection.

use std::env;
use std::fs;
use std::path::PathBuf;
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

use crate::bounded_file;

/// How long the system roots are cached after they were read.
const ROOTS_AGE: Duration = Duration::from_secs(10);

/// Which server certificates a client accepts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any certificate, without verification: the user asked for it (like `curl --insecure`).
    AnyCertificate,
    /// The system roots (or those of `SSL_CERT_FILE`) plus these certificates.
    SystemRootsAnd(Vec<CertificateDer<'static>>),
    /// Only these certificates.
    Only(Vec<CertificateDer<'static>>),
}

/// Returns a rustls configuration without ALPN and without a client certificate.
pub fn client_config(trust: Trust) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has the ciphers of TLS 1.2 and 1.3");
    let accepted = match trust {
        Trust::SystemRootsAnd(others) if others.is_empty() => {
            return builder.with_root_certificates(system_roots()).with_no_client_auth();
        }
        Trust::AnyCertificate => AcceptedCertificates::Any,
        Trust::SystemRootsAnd(others) => {
            let roots = with_certificates(RootCertStore::clone(&system_roots()), &others);
            AcceptedCertificates::Given(GivenCertificates::new(roots, others, &provider))
        }
        Trust::Only(certificates) => {
            let roots = with_certificates(RootCertStore::empty(), &certificates);
            AcceptedCertificates::Given(GivenCertificates::new(roots, certificates, &provider))
        }
    };
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { accepted, provider }))
        .with_no_client_auth()
}

/// Verifies the chain of a server, its own certificate first, as a client would that trusts the system roots and
/// connects to `name`.
///
/// # Errors
/// Such a client would reject it.
pub fn verify_server(
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> Result<(), rustls::Error> {
    let [own, intermediates @ ..] = chain else {
        return Err(rustls::Error::NoCertificatesPresented);
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(system_roots(), provider).build();
    // Without any root no certificate is trusted.
    let unknown = |_| rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let verifier = verifier.map_err(unknown)?;
    verifier.verify_server_cert(own, intermediates, name, &[], UnixTime::now()).map(drop)
}

/// Returns the system roots. A start or a reload asks for them once per upstream and shard, so they
/// are cached for [`ROOTS_AGE`]; after that they are read again, since they may have changed.
fn system_roots() -> Arc<RootCertStore> {
    static NEWEST: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, roots)) = newest.as_ref().filter(|(read, _)| read.elapsed() < ROOTS_AGE) {
        return Arc::clone(roots);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native_certificates());
    let roots = Arc::new(roots);
    *newest = Some((Instant::now(), Arc::clone(&roots)));
    roots
}

/// Reads the certificates of the system, or of `SSL_CERT_FILE` and of the directories in `SSL_CERT_DIR`. The file may
/// be a pipe, whose writer must not be waited for. Of a directory only regular files are read.
fn native_certificates() -> Vec<CertificateDer<'static>> {
    let directories = env::var_os("SSL_CERT_DIR").unwrap_or_default();
    let directories = env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty());
    let directories: Vec<PathBuf> = directories.collect();
    for directory in &directories {
        if let Err(error) = fs::read_dir(directory) {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "SSL_CERT_DIR cannot be read: no certificate in it is trusted");
        }
    }
    let file = env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let Some((file, error)) = file.and_then(|file| {
        let error = bounded_file::open(&file).err()?;
        Some((file, error))
    }) else {
        return rustls_native_certs::load_native_certs().certs;
    };
    let file = file.display();
    tracing::warn!(%file, %error, "SSL_CERT_FILE cannot be read: its certificates are not trusted");
    let of =
        |directory: &PathBuf| rustls_native_certs::load_certs_from_paths(None, Some(directory));
    directories.iter().flat_map(|directory| of(directory).certs).collect()
}

/// Adds certificates. Skips those that cannot be parsed: a server that needs one fails
/// verification.
fn with_certificates(
    mut roots: RootCertStore,
    others: &[CertificateDer<'static>],
) -> RootCertStore {
    roots.add_parsable_certificates(others.iter().cloned());
    roots
}

/// Accepts servers whose chain ends in one of these certificates, and servers that present one of
/// them as their own, as OpenSSL and curl do. The latter is what `openssl req -x509` makes: a
/// self-signed CA certificate, which webpki rejects as a server's (`CaUsedAsEndEntity`).
#[derive(Debug)]
struct GivenCertificates {
    certificates: Vec<CertificateDer<'static>>,
    // `None`: no root could be parsed.
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl GivenCertificates {
    fn new(
        roots: RootCertStore,
        certificates: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let roots = Arc::new(roots);
        let chains = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
        Self { certificates, chains: chains.build().ok() }
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
            Err(error) if is_chain_error(&error) && self.certificates.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }
}

/// Whether webpki rejected only the chain: it does not know the issuer, or the certificate is a CA.
/// webpki checks the validity period before these.
fn is_chain_error(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            // The error's type belongs to `webpki`, which is not a direct dependency.
            other.to_string().contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

/// Which certificates pass.
#[derive(Debug)]
enum AcceptedCertificates {
    /// All. The handshake still proves that the server holds the certificate's key.
    Any,
    Given(GivenCertificates),
}

/// Verifies a server's certificate and its handshake signature.
#[derive(Debug)]
struct Verifier {
    accepted: AcceptedCertificates,
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
        match &self.accepted {
            AcceptedCertificates::Any => Ok(ServerCertVerified::assertion()),
            AcceptedCertificates::Given(given) => {
                given.verify(end_entity, intermediates, server_name, ocsp_response, now)
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
