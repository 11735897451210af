//! The certificate of `self_signed: true`: made once, and kept in the state directory.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::Access;

use super::certificate::{self, Certificate};
use super::state;
use super::tls::TlsError;

/// The names that the local certificate is for.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// As long as every platform accepts, and it is made anew when less than the last month is left.
const LOCAL_VALIDITY_DAYS: i64 = 825;
const LOCAL_RENEWAL: Duration = Duration::from_secs(30 * 86_400);

/// Opens the certificate of this user or service.
///
/// # Errors
/// There is no state directory, or it cannot be written to and has no certificate that is valid now.
pub(super) fn open() -> Result<Certificate, TlsError> {
    open_in(&state::state_dir().ok_or(TlsError::NoStateDirectory)?, SystemTime::now())
}

/// As [`open`], in this directory.
pub(super) fn open_in(directory: &Path, now: SystemTime) -> Result<Certificate, TlsError> {
    match keep_in(directory) {
        Ok((certificate, key)) => Certificate::open_local(&certificate, &key),
        Err(error) => match valid_in(directory, now) {
            // The watch of certificates tries again before it ends.
            Some(valid) => {
                tracing::warn!(%error, "the local certificate cannot be renewed; it is shown as it is");
                Ok(valid)
            }
            None => Err(error),
        },
    }
}

/// Why [`open`] would fail, or what it would warn of; makes nothing.
///
/// # Errors
/// There is no state directory, it cannot be written to, or what lies there cannot be used.
pub(super) fn check(now: SystemTime) -> Result<Option<String>, TlsError> {
    let directory = state::state_dir().ok_or(TlsError::NoStateDirectory)?;
    let (certificate, key) = files_in(&directory);
    if key.exists() && is_fresh(&certificate) {
        return Certificate::open(&certificate, &key).map(|_usable| None);
    }
    // What is not there yet is made in the nearest folder that is.
    let there =
        directory.ancestors().find(|folder| folder.exists()).unwrap_or_else(|| Path::new("/"));
    let Err(cause) = rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK) else {
        return Ok(None);
    };
    let error = TlsError::Unwritable { path: directory.clone(), cause: cause.into() };
    match valid_in(&directory, now) {
        Some(_valid) => Ok(Some(error.to_string())),
        None => Err(error),
    }
}

/// The certificate in this directory, if it can be shown now.
fn valid_in(directory: &Path, now: SystemTime) -> Option<Certificate> {
    let (certificate, key) = files_in(directory);
    let opened = Certificate::open_local(&certificate, &key).ok()?;
    opened.validity()?.is_valid(now).then_some(opened)
}

fn files_in(directory: &Path) -> (PathBuf, PathBuf) {
    (directory.join("local.crt"), directory.join("local.key"))
}

/// The files of the certificate in this directory; it is made if it is not there or ends soon.
pub(super) fn keep_in(directory: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = files_in(directory);
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

fn is_fresh(path: &Path) -> bool {
    let renewal = SystemTime::now() + LOCAL_RENEWAL;
    certificate::validity_in(path).is_some_and(|validity| validity.not_after() > renewal)
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

    use super::keep_in;
    use crate::server::certificate::Certificate;

    #[test]
    fn the_local_certificate_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = directory.path().join("deep/ssegate");
        let (certificate, key) = keep_in(&state).expect("made");
        let first = fs::read(&certificate).expect("there");
        let mode = fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = keep_in(&state).expect("kept");
        assert_eq!(again, (certificate.clone(), key.clone()));
        assert_eq!(fs::read(&certificate).expect("there"), first);

        let opened = Certificate::open(&certificate, &key).expect("it can be used");
        assert!(opened.validity().is_some());
    }
}
