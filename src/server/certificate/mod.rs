//! A certificate in PEM files, read again when they change.
//!
//! Open connections keep what they were shown; new ones are shown what the files say now. Files that
//! cannot be used change nothing.

mod pem;
mod validity;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use self::validity::{Standing, Validity};
use super::local_certificate;
use super::tls::TlsError;

/// A certificate with its key, as a listener shows it.
#[derive(Debug)]
pub struct Certificate {
    shown: RwLock<Pair>,
    seen: Mutex<Seen>,
}

/// What is shown, and how long it is good; `None`: that cannot be read.
#[derive(Clone, Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    validity: Option<Validity>,
}

/// The files as they were looked at last.
#[derive(Debug)]
struct Seen {
    certificate: PathBuf,
    key: PathBuf,
    // Made by us, and made anew before it ends.
    is_local: bool,
    // Of what is shown.
    stamp: Stamp,
    // What was said of those that could not be used.
    told: Option<String>,
}

/// What tells that files have changed: when each was written, and its length.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Pair {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let key = pem::read(certificate, key)?;
        let validity = key.cert.first().and_then(Validity::of);
        Ok(Self { key: Arc::new(key), validity })
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.validity.is_none_or(|validity| validity.is_valid(now))
    }

    /// Why this may not be shown in place of `shown`: no client takes it, and the other is taken.
    fn fault_beside(&self, shown: &Self, path: &Path, now: SystemTime) -> Result<(), TlsError> {
        if self.is_valid(now) || !shown.is_valid(now) {
            return Ok(());
        }
        let problem = self.validity.and_then(|validity| validity.fault(now)).unwrap_or_default();
        Err(TlsError::Invalid { path: path.into(), problem })
    }
}

impl Certificate {
    /// Reads the files. What they hold may have expired: that is told by [`problem`](Self::problem).
    ///
    /// # Errors
    /// A file cannot be read, is no PEM, or the two do not belong together.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamp = stamp(certificate, key);
        let shown = RwLock::new(Pair::read(certificate, key)?);
        let (certificate, key) = (certificate.into(), key.into());
        let seen = Seen { certificate, key, is_local: false, stamp, told: None };
        Ok(Self { shown, seen: Mutex::new(seen) })
    }

    /// The same, of files that we have made.
    pub(super) fn open_local(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let opened = Self::open(certificate, key)?;
        opened.seen().is_local = true;
        Ok(opened)
    }

    /// Shows from now on what `other` shows, and looks at its files.
    ///
    /// # Errors
    /// What `other` shows is not valid now, and what is shown is: that stays.
    pub fn become_like(&self, other: Self, now: SystemTime) -> Result<(), TlsError> {
        let mut new = other.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let pair = other.shown.into_inner().unwrap_or_else(PoisonError::into_inner);
        let fault = pair.fault_beside(&self.shown(), &new.certificate, now);
        match &fault {
            Ok(()) => self.show(pair),
            Err(error) => (new.stamp, new.told) = (Stamp::default(), Some(error.to_string())),
        }
        *self.seen() = new;
        fault
    }

    /// Until when what is shown is good; `None` if that cannot be read.
    pub fn validity(&self) -> Option<Validity> {
        self.shown().validity
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.seen().certificate.clone()
    }

    /// What is wrong with what is shown, or with the files that cannot be shown.
    pub fn problem(&self, now: SystemTime) -> Option<String> {
        let shown = self.validity().and_then(|validity| validity.problem(now));
        let told = self.seen().told.clone();
        match (shown, told) {
            (shown, None) => shown,
            (None, Some(told)) => Some(format!("{told}; the one before it is shown")),
            (Some(shown), Some(told)) => Some(format!("{shown}; the new one: {told}")),
        }
    }

    /// Shows what the files say now, if they have changed; gives back whether it does. Files that cannot
    /// be used are looked at again the next time: they may be half written, or not valid yet.
    ///
    /// # Errors
    /// What the files say cannot be used, or is not valid now while what is shown is: that stays. Or a
    /// local certificate that ends soon cannot be made anew. The same error is returned once.
    pub fn renew(&self, now: SystemTime) -> Result<bool, TlsError> {
        let mut seen = self.seen();
        match self.newer(&mut seen, now) {
            Ok(newer) => {
                seen.told = None;
                let is_newer = newer.is_some();
                newer.into_iter().for_each(|pair| self.show(pair));
                Ok(is_newer)
            }
            Err(error) => {
                let told = seen.told.replace(error.to_string());
                if told == seen.told { Ok(false) } else { Err(error) }
            }
        }
    }

    /// What the files say, if they have changed and it can be shown. A local certificate that ends soon
    /// is made anew first.
    fn newer(&self, seen: &mut Seen, now: SystemTime) -> Result<Option<Pair>, TlsError> {
        if seen.is_local && self.is_ending(now) {
            let directory = seen.certificate.parent().unwrap_or_else(|| Path::new("."));
            local_certificate::keep_in(directory)?;
        }
        let stamp = stamp(&seen.certificate, &seen.key);
        if seen.stamp == stamp {
            return Ok(None);
        }
        let pair = Pair::read(&seen.certificate, &seen.key)?;
        pair.fault_beside(&self.shown(), &seen.certificate, now)?;
        seen.stamp = stamp;
        Ok(Some(pair))
    }

    fn is_ending(&self, now: SystemTime) -> bool {
        self.validity().is_some_and(|validity| validity.standing(now) > Standing::Good)
    }

    fn show(&self, pair: Pair) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }

    fn shown(&self) -> Pair {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown().key)
    }
}

/// Until when the certificate in this file is good.
pub(super) fn validity_in(certificate: &Path) -> Option<Validity> {
    Validity::of(pem::read_chain(certificate).ok()?.first()?)
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

#[cfg(test)]
mod tests;
