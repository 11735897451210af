//! The certificate of `self_signed: true`: generated once, and kept in the state directory.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::Access;

use super::validity::Validity;
use super::{Certificate, pem};
use crate::server::state_dir;
use crate::server::tls_error::TlsError;

/// The subject alternative names of the self-signed certificate.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The longest lifetime that every platform accepts (Apple: 825 days).
const LOCAL_VALIDITY_DAYS: i64 = 825;
/// It is renewed when less than this is left.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// Opens the self-signed certificate of this user or service. Generates or renews it if needed.
///
/// # Errors
/// There is no state directory, or it is not writable and has no certificate that is valid now.
pub(in crate::server) fn open() -> Result<Certificate, TlsError> {
    open_in(&state_dir::state_dir().ok_or(TlsError::NoStateDirectory)?, SystemTime::now())
}

/// Like [`open`], in the given directory.
pub(super) fn open_in(directory: &Path, now: SystemTime) -> Result<Certificate, TlsError> {
    match ensure_in(directory) {
        Ok((certificate, key)) => Certificate::open_local(&certificate, &key),
        Err(error) => match valid_in(directory, now) {
            // The periodic check of certificates retries the renewal.
            Some(valid) => {
                tracing::warn!(%error, "cannot renew the self-signed certificate; it stays in use");
                Ok(valid)
            }
            None => Err(error),
        },
    }
}

/// Checks whether [`open`] would succeed, without writing anything. Returns what it would warn
/// about.
///
/// # Errors
/// There is no state directory, it is not writable, or its certificate cannot be used.
pub(in crate::server) fn check(now: SystemTime) -> Result<Option<String>, TlsError> {
    let directory = state_dir::state_dir().ok_or(TlsError::NoStateDirectory)?;
    let (certificate, key) = files_in(&directory);
    if key.exists() && is_fresh(&certificate) {
        return Certificate::open(&certificate, &key).map(|_usable| None);
    }
    // Missing directories would be created in the nearest one that exists.
    let existing =
        directory.ancestors().find(|folder| folder.exists()).unwrap_or_else(|| Path::new("/"));
    let Err(cause) = rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK) else {
        return Ok(None);
    };
    let error = TlsError::Unwritable { path: directory.clone(), cause: cause.into() };
    match valid_in(&directory, now) {
        Some(_valid) => Ok(Some(error.to_string())),
        None => Err(error),
    }
}

/// Returns the certificate in a directory, if it is valid now.
fn valid_in(directory: &Path, now: SystemTime) -> Option<Certificate> {
    let (certificate, key) = files_in(directory);
    let opened = Certificate::open_local(&certificate, &key).ok()?;
    opened.validity()?.is_valid(now).then_some(opened)
}

fn files_in(directory: &Path) -> (PathBuf, PathBuf) {
    (directory.join("local.crt"), directory.join("local.key"))
}

/// Returns the certificate's files in a directory. Generates them if they are missing or the
/// certificate expires within [`RENEW_BEFORE`].
pub(super) fn ensure_in(directory: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = files_in(directory);
    if key.exists() && is_fresh(&certificate) {
        return Ok((certificate, key));
    }
    let made = make_certificate()?;
    write_private(&key, &made.signing_key.serialize_pem())
        .and_then(|()| write_private(&certificate, &made.cert.pem()))
        .map_err(|cause| TlsError::Unwritable { path: directory.into(), cause })?;
    tracing::info!(path = %certificate.display(), "generated a self-signed certificate");
    Ok((certificate, key))
}

fn is_fresh(path: &Path) -> bool {
    let renewal = SystemTime::now() + RENEW_BEFORE;
    validity_in(path).is_some_and(|validity| validity.not_after() > renewal)
}

/// Returns the validity period of the certificate in a file.
fn validity_in(certificate: &Path) -> Option<Validity> {
    Validity::of(pem::read_chain(certificate).ok()?.first()?)
}

fn make_certificate() -> Result<rcgen::CertifiedKey<rcgen::KeyPair>, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(LOCAL_NAMES.map(String::from))?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "ssegate self-signed certificate");
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(LOCAL_VALIDITY_DAYS);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let signing_key = rcgen::KeyPair::generate()?;
    let cert = params.self_signed(&signing_key)?;
    Ok(rcgen::CertifiedKey { cert, signing_key })
}

/// Writes a file atomically (rename), readable by its owner only.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
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

    use super::ensure_in;
    use crate::server::certificate::Certificate;

    #[test]
    fn the_local_certificate_is_generated_once_with_a_private_key_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = directory.path().join("deep/ssegate");
        let (certificate, key) = ensure_in(&state).expect("made");
        let first = fs::read(&certificate).expect("there");
        let mode = fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = ensure_in(&state).expect("kept");
        assert_eq!(again, (certificate.clone(), key.clone()));
        assert_eq!(fs::read(&certificate).expect("there"), first);

        let opened = Certificate::open(&certificate, &key).expect("it can be used");
        assert!(opened.validity().is_some());
    }
}
