//! A certificate in PEM files, read again when they change.
//!
//! Open connections keep what they were shown; new ones are shown what the files say now. Files that
//! cannot be used change nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::tls::TlsError;

/// A certificate with its key, as a listener shows it.
#[derive(Debug)]
pub struct Certificate {
    shown: RwLock<Arc<CertifiedKey>>,
    // Seconds of Unix time; 0: unknown.
    expires: AtomicI64,
    seen: Mutex<Seen>,
}

/// The files as they were looked at last.
#[derive(Debug)]
struct Seen {
    certificate: PathBuf,
    key: PathBuf,
    // Of what is shown.
    stamp: Stamp,
    // What was said of those that could not be used.
    told: Option<String>,
}

/// What tells that files have changed: when each was written, and its length.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, is no PEM, or the two do not belong together.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamp = stamp(certificate, key);
        let shown = read(certificate, key)?;
        Ok(Self {
            expires: AtomicI64::new(expiry_of(&shown).unwrap_or_default()),
            shown: RwLock::new(Arc::new(shown)),
            seen: Mutex::new(Seen {
                certificate: certificate.into(),
                key: key.into(),
                stamp,
                told: None,
            }),
        })
    }

    /// Shows from now on what `other` shows, and looks at its files.
    pub fn become_like(&self, other: Self) {
        let Self { shown, expires, seen } = other;
        *self.seen.lock().expect("no panic holds it") =
            seen.into_inner().expect("no panic holds it");
        self.expires.store(expires.into_inner(), Ordering::Relaxed);
        let shown = shown.into_inner().expect("no panic holds it");
        *self.shown.write().expect("no panic holds it") = shown;
    }

    /// When it ends, in seconds of Unix time; `None` if that cannot be read.
    pub fn expires(&self) -> Option<i64> {
        let expires = self.expires.load(Ordering::Relaxed);
        (expires != 0).then_some(expires)
    }

    /// Shows what the files say now, if they have changed; answers whether it does. Files that cannot
    /// be used are looked at again the next time: they may be half written.
    ///
    /// # Errors
    /// What the files say cannot be used: what is shown stays. The same error is told once.
    pub fn renew(&self) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock().expect("no panic holds it");
        let stamp = stamp(&seen.certificate, &seen.key);
        if seen.stamp == stamp {
            seen.told = None;
            return Ok(false);
        }
        let shown = match read(&seen.certificate, &seen.key) {
            Ok(shown) => shown,
            Err(error) => {
                let told = seen.told.replace(error.to_string());
                return if told == seen.told { Ok(false) } else { Err(error) };
            }
        };
        (seen.stamp, seen.told) = (stamp, None);
        self.expires.store(expiry_of(&shown).unwrap_or_default(), Ordering::Relaxed);
        *self.shown.write().expect("no panic holds it") = Arc::new(shown);
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().expect("no panic holds it")))
    }
}

/// When the certificate in this file ends, in seconds of Unix time.
pub(super) fn expiry_in(certificate: &Path) -> Option<i64> {
    expiry(read_chain(certificate).ok()?.first()?)
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(certificate)?;
    let private_key =
        PrivateKeyDer::from_pem_file(key).map_err(|cause| unusable(cause, key, "private key"))?;
    CertifiedKey::from_der(chain, private_key, &aws_lc_rs::default_provider()).map_err(|cause| {
        TlsError::Mismatch { certificate: certificate.into(), key: key.into(), cause }
    })
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

fn expiry_of(key: &CertifiedKey) -> Option<i64> {
    expiry(key.cert.first()?)
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::Certificate;
    use crate::server::local_certificate;
    use crate::server::tls::TlsError;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = local_certificate::keep_in(directory.path()).expect("made");
        let empty = directory.path().join("empty.pem");
        fs::write(&empty, "").expect("written");

        let message =
            |result: Result<Certificate, TlsError>| result.expect_err("refused").to_string();
        let missing = directory.path().join("none.pem");
        assert!(message(Certificate::open(&missing, &key)).starts_with("cannot read"));
        assert!(message(Certificate::open(&empty, &key)).starts_with("no certificate in"));
        assert!(message(Certificate::open(&certificate, &empty)).starts_with("no private key in"));

        let other = directory.path().join("other");
        let (_, other_key) = local_certificate::keep_in(&other).expect("made");
        let mismatch = message(Certificate::open(&certificate, &other_key));
        assert!(mismatch.contains("cannot be used together"), "{mismatch}");
    }

    #[test]
    fn changed_files_are_shown_and_bad_ones_are_not() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = local_certificate::keep_in(directory.path()).expect("made");
        let shown = Certificate::open(&certificate, &key).expect("it can be used");
        let first = shown.shown.read().expect("no panic").cert.clone();
        assert!(!shown.renew().expect("nothing changed"));

        fs::write(&certificate, "no certificate").expect("written");
        assert!(shown.renew().is_err());
        assert!(!shown.renew().expect("said once"));
        assert_eq!(shown.shown.read().expect("no panic").cert, first);

        let (other, other_key) =
            local_certificate::keep_in(&directory.path().join("other")).expect("made");
        fs::copy(other, &certificate).expect("copied");
        fs::copy(other_key, &key).expect("copied");
        assert!(shown.renew().expect("it can be used"));
        assert_ne!(shown.shown.read().expect("no panic").cert, first);
    }
    #[test]
    fn a_file_that_was_read_half_written_is_read_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = local_certificate::keep_in(directory.path()).expect("made");
        let shown = Certificate::open(&certificate, &key).expect("it can be used");
        let whole = fs::read(&certificate).expect("read");
        let later = SystemTime::now() + Duration::from_secs(1);
        let write = |bytes: &[u8]| {
            fs::write(&certificate, bytes).expect("written");
            let file = fs::File::options().write(true).open(&certificate).expect("opened");
            file.set_modified(later).expect("a time");
        };

        // Its length and the second in which it was written do not tell it from the whole one.
        write(&vec![b'\n'; whole.len()]);
        assert!(shown.renew().is_err());
        assert!(!shown.renew().expect("said once"));
        write(&whole);
        assert!(shown.renew().expect("it can be used"));
    }
}
