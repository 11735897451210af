//! The certificate of all servers, and the client's side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};

use crate::Outcome;

/// A certificate for `localhost` with a key of P-256, in two PEM files.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// For clients: trusts that certificate.
    pub(crate) client: Arc<ClientConfig>,
}

impl Certificate {
    /// Makes it in `directory`.
    pub(crate) fn make(directory: &Path) -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        // One key exchange and one suite, so that every server does the same work.
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every handshake is a full one.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { certificate, key, client: Arc::new(client) })
    }
}
