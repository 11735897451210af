//! Why a listener cannot use TLS.

use std::io;
use std::path::PathBuf;

/// Why a listener cannot use TLS. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A PEM file does not contain what it should.
    #[error("no {item} found in {path}: expected a PEM file{hint}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was expected: "certificate" or "private key".
        item: &'static str,
        /// What the file contains instead, and how to convert it; may be empty.
        hint: String,
    },
    /// The key is damaged or of an unsupported type.
    #[error(
        "the private key in {path} cannot be used: {cause}; supported are RSA (2048 bits or more), \
         ECDSA and Ed25519"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The error of rustls.
        cause: rustls::Error,
    },
    /// The certificate is damaged.
    #[error("the certificate in {path} cannot be used: {cause}{}", certificate_hint(.cause))]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The error of rustls.
        cause: rustls::Error,
    },
    /// The key does not belong to the certificate.
    #[error("{certificate} and {key} do not match: {}", mismatch(*.position))]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The position, from 2 on, of the certificate in the file that the key does match.
        position: Option<usize>,
    },
    /// The new certificate is not valid now, and the current one is.
    #[error("the certificate in {path} is not used: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is not one certificate.
    #[error("no certificate")]
    None,
    /// There is no state directory for the self-signed certificate.
    #[error(
        "no state directory for the self-signed certificate: set HOME, XDG_STATE_HOME or STATE_DIRECTORY"
    )]
    NoStateDirectory,
    /// The self-signed certificate cannot be saved.
    #[error("cannot write the self-signed certificate to {path}: {cause}")]
    Unwritable {
        /// The state directory.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The self-signed certificate cannot be generated.
    #[error("cannot generate a self-signed certificate: {0}")]
    Generation(#[from] rcgen::Error),
    /// The cryptography provider failed.
    #[error("TLS is not available: {0}")]
    Provider(rustls::Error),
}

/// Returns what to do about a certificate that rustls rejects.
fn certificate_hint(cause: &rustls::Error) -> &'static str {
    // `openssl x509 -req` without an extension makes X.509 version 1.
    match cause.to_string().contains("UnsupportedCertVersion") {
        true => "; it is X.509 version 1: make one with a subjectAltName, which is version 3",
        false => "",
    }
}

fn mismatch(position: Option<usize>) -> String {
    match position {
        Some(position) => format!(
            "the key belongs to certificate number {position} in the file; the server's own must \
             come first"
        ),
        None => "the key belongs to another certificate".to_owned(),
    }
}

impl TlsError {
    /// Whether the fault is in the key's file, not in the certificate's.
    pub fn is_key_fault(&self) -> bool {
        match self {
            Self::Key { .. } | Self::Mismatch { .. } => true,
            Self::Missing { item, .. } => *item == "private key",
            _ => false,
        }
    }
}
