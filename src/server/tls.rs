//! Certificates and TLS (rustls): what a listener shows to its clients.
//!
//! TLS 1.2 and 1.3 with the provider's safe suites, ALPN `h2` and `http/1.1`, tickets so that a
//! client that comes back costs no full handshake. No early data: it can be replayed.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsSettings;
use super::state;

/// The names that the local certificate is for.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// As long as every platform accepts, and it is made anew when less than the last month is left.
const LOCAL_VALIDITY_DAYS: i64 = 825;
const LOCAL_RENEWAL_DAYS: i64 = 30;

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
    #[error("no {what} in {path}: it must be a PEM file with one")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The two files do not belong together, or the certificate is damaged.
    #[error("{certificate} and {key} cannot be used together: {cause}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        cause: rustls::Error,
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

/// What a listener needs to speak TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds of Unix time; `None` if it cannot be read.
    pub expires: Option<i64>,
}

impl Tls {
    /// Loads or makes the certificate.
    ///
    /// # Errors
    /// Each with what to do about it; see [`TlsError`].
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        match settings {
            TlsSettings::Files { certificate, key } => Self::from_files(certificate, key),
            TlsSettings::SelfSigned => {
                let directory = state::state_dir().ok_or(TlsError::NoStateDirectory)?;
                let (certificate, key) = local_certificate(&directory)?;
                Self::from_files(&certificate, &key)
            }
        }
    }

    fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_chain(certificate)?;
        let private_key = PrivateKeyDer::from_pem_file(key)
            .map_err(|cause| unusable(cause, key, "private key"))?;
        let expires = chain.first().and_then(expiry);
        let config = server_config(chain, private_key).map_err(|cause| TlsError::Mismatch {
            certificate: certificate.into(),
            key: key.into(),
            cause,
        })?;
        Ok(Self { config: Arc::new(config), expires })
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(TlsError::Missing { path: path.into(), what: "certificate" })
        }
        Ok(chain) => Ok(chain),
        Err(cause) => Err(unusable(cause, path, "certificate")),
    }
}

fn unusable(cause: pem::Error, path: &Path, what: &'static str) -> TlsError {
    match cause {
        pem::Error::Io(cause) => TlsError::Unreadable { path: path.into(), cause },
        _ => TlsError::Missing { path: path.into(), what },
    }
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// The files of the local certificate, which is made if it is not there or ends soon.
fn local_certificate(directory: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (directory.join("local.crt"), directory.join("local.key"));
    if key.exists() && is_fresh(&certificate) {
        return Ok((certificate, key));
    }
    let made = make_certificate()?;
    keep(&key, &made.signing_key.serialize_pem())
        .and_then(|()| keep(&certificate, &made.cert.pem()))
        .map_err(|cause| TlsError::Unwritable { path: directory.into(), cause })?;
    tracing::info!(path = %certificate.display(), "made a local certificate");
    Ok((certificate, key))
}

fn is_fresh(certificate: &Path) -> bool {
    let expires = read_chain(certificate).ok().and_then(|chain| expiry(chain.first()?));
    let renewal = time::OffsetDateTime::now_utc() + time::Duration::days(LOCAL_RENEWAL_DAYS);
    expires.is_some_and(|expires| expires > renewal.unix_timestamp())
}

fn make_certificate() -> Result<rcgen::CertifiedKey<rcgen::KeyPair>, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(LOCAL_NAMES.map(String::from))?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "ssegate local certificate");
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(LOCAL_VALIDITY_DAYS);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let signing_key = rcgen::KeyPair::generate()?;
    let cert = params.self_signed(&signing_key)?;
    Ok(rcgen::CertifiedKey { cert, signing_key })
}

/// Writes a file that only its owner can read, whole or not at all.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory)?;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Tls, TlsError, local_certificate};

    #[test]
    fn the_local_certificate_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = directory.path().join("deep/ssegate");
        let (certificate, key) = local_certificate(&state).expect("made");
        let first = fs::read(&certificate).expect("there");
        let mode = fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = local_certificate(&state).expect("kept");
        assert_eq!(again, (certificate.clone(), key.clone()));
        assert_eq!(fs::read(&certificate).expect("there"), first);

        let tls = Tls::from_files(&certificate, &key).expect("it can be used");
        assert!(tls.expires.is_some());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = local_certificate(directory.path()).expect("made");
        let empty = directory.path().join("empty.pem");
        fs::write(&empty, "").expect("written");

        let message = |result: Result<Tls, TlsError>| result.expect_err("refused").to_string();
        let missing = directory.path().join("none.pem");
        assert!(message(Tls::from_files(&missing, &key)).starts_with("cannot read"));
        assert!(message(Tls::from_files(&empty, &key)).starts_with("no certificate in"));
        assert!(message(Tls::from_files(&certificate, &empty)).starts_with("no private key in"));

        let other = directory.path().join("other");
        let (_, other_key) = local_certificate(&other).expect("made");
        assert!(
            message(Tls::from_files(&certificate, &other_key)).contains("cannot be used together")
        );
    }
}
