//! The trust anchors of the commands' TLS client: the system's roots and ssegate's own certificate.

use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use ssegate::bounded_file;
use ssegate::server::state_dir;
use ssegate::tls_client::{self, Trust};

/// A TLS client configuration that offers HTTP/2 and HTTP/1.1 (ALPN, RFC 7301). With `insecure` any
/// certificate is accepted.
pub(super) fn tls_client(insecure: bool) -> ClientConfig {
    let trust = if insecure {
        Trust::AnyCertificate
    } else {
        Trust::SystemRootsAnd(local_certificate().into_iter().collect())
    };
    let mut config = tls_client::client_config(trust);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// The certificate of `self_signed: true`, if this user has run such a gateway.
fn local_certificate() -> Option<CertificateDer<'static>> {
    let file = bounded_file::read(&state_dir::local_certificate()?).ok()?;
    CertificateDer::from_pem_slice(&file).ok()
}
