//! TLS (rustls) as a server: how a listener speaks, and with which certificate.
//!
//! TLS 1.2 and 1.3 with the provider's safe suites, ALPN `h2` and `http/1.1`, tickets so that a
//! client that comes back costs no full handshake. No early data: it can be replayed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use super::certificate::Certificate;
use super::{TlsSettings, local_certificate};

/// Why a listener cannot speak TLS. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A PEM file does not hold what it should.
    #[error("no {what} in {path}: it must be a PEM file with one{hint}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What it holds instead, and how to mend it; perhaps nothing.
        hint: String,
    },
    /// The key is damaged, or of a kind that we do not know.
    #[error(
        "the private key in {path} cannot be used: {cause}; RSA of 2048 bits and more, ECDSA and \
         Ed25519 can"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        cause: rustls::Error,
    },
    /// The certificate is damaged.
    #[error("the certificate in {path} cannot be used: {cause}{}", mend(.cause))]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        cause: rustls::Error,
    },
    /// The two files do not belong together.
    #[error("{certificate} and {key} cannot be used together: {}", mismatch(*.position))]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Which certificate of the file is that of the key, from 2 on.
        position: Option<usize>,
    },
    /// No client would take the certificate now.
    #[error("the certificate in {path} is not shown: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nowhere to keep the local certificate.
    #[error("nowhere to keep the local certificate: set HOME, XDG_STATE_HOME or STATE_DIRECTORY")]
    NoStateDirectory,
    /// The local certificate cannot be kept.
    #[error("cannot keep the local certificate in {path}: {cause}")]
    Unwritable {
        /// The state directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The local certificate cannot be made.
    #[error("cannot make a local certificate: {0}")]
    Generation(#[from] rcgen::Error),
    /// The provider refuses.
    #[error("TLS is not available: {0}")]
    Provider(rustls::Error),
}

/// What to do about a certificate that rustls does not read.
fn mend(cause: &rustls::Error) -> &'static str {
    // Such as `openssl x509 -req` makes where it is given no extension.
    match cause.to_string().contains("UnsupportedCertVersion") {
        true => "; it is X.509 version 1: make one with a subjectAltName, which is version 3",
        false => "",
    }
}

fn mismatch(position: Option<usize>) -> String {
    match position {
        Some(position) => format!(
            "the key is that of certificate number {position} in the file; the server's own has to \
             be the first"
        ),
        None => "the key is another certificate's".to_owned(),
    }
}

impl TlsError {
    /// Whether it is the file of the key that is at fault, rather than that of the certificate.
    pub fn is_of_key(&self) -> bool {
        match self {
            Self::Key { .. } | Self::Mismatch { .. } => true,
            Self::Missing { what, .. } => *what == "private key",
            _ => false,
        }
    }
}

/// What a listener needs to speak TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// What is shown.
    pub certificate: Arc<Certificate>,
}

impl Tls {
    /// Loads or makes the certificate.
    ///
    /// # Errors
    /// Each with what to do about it; see [`TlsError`].
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let certificate = Arc::new(certificate(settings)?);
        let config = server_config(Arc::clone(&certificate)).map_err(TlsError::Provider)?;
        Ok(Self { config: Arc::new(config), certificate })
    }
}

/// Loads or makes the certificate alone.
///
/// # Errors
/// Each with what to do about it; see [`TlsError`].
pub fn certificate(settings: &TlsSettings) -> Result<Certificate, TlsError> {
    match settings {
        TlsSettings::Files { certificate, key } => Certificate::open(certificate, key),
        TlsSettings::SelfSigned => local_certificate::open(),
    }
}

/// Looks whether the certificate could be loaded or made, and makes nothing. Returns what is doubtful
/// about a file, such as that it expires soon.
///
/// # Errors
/// Each with what to do about it; see [`TlsError`].
pub fn check(settings: &TlsSettings, now: SystemTime) -> Result<Option<String>, TlsError> {
    match settings {
        TlsSettings::Files { certificate, key } => {
            let problem = Certificate::open(certificate, key)?.problem(now);
            Ok(problem.map(|problem| format!("{}: {problem}", certificate.display())))
        }
        TlsSettings::SelfSigned => local_certificate::check(now),
    }
}

fn server_config(certificate: Arc<Certificate>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A key makes tickets for six hours and is known for six more. It stays where it is, also over a
    // reload, and never leaves the process: after a restart or a takeover each client pays for one
    // whole handshake, and the drain spreads them. A ticket is taken on one listener only, and says
    // nothing of the certificate: who resumes is shown none.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
