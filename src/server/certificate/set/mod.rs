//! The certificates of one listener, and which of them a client is shown.
//!
//! A client sends in its ClientHello the host that it wants (SNI, RFC 6066, section 3). It is shown the certificate
//! with that name, else the one whose wildcard matches it, else the first. A client that sends no name is shown the
//! first, too. The handshake is never refused for the name: the client decides whether the certificate is good enough.
//!
//! The choice has no other effect: every route is reachable under every name. So a request that a browser sends over a
//! connection to another name is never misdirected (421, RFC 9110, section 15.5.20).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use smallvec::{SmallVec, smallvec};

use super::Certificate;
use super::names::wildcard_of;
use crate::server::tls_error::TlsError;

/// The certificates of a listener; there is at least one. The first is the default.
#[derive(Debug)]
pub struct CertificateSet {
    certificates: Mutex<Vec<Arc<Certificate>>>,
    // What handshakes read. It is replaced whenever a certificate is.
    shown: RwLock<Arc<ShownCertificates>>,
}

/// What became of one certificate in a reload.
#[derive(Debug)]
pub struct CertificateReload {
    /// The certificate, with its validity after the reload.
    pub certificate: Arc<Certificate>,
    /// Whether other files are in use than before; `Err`: why newer ones are not.
    pub result: Result<bool, TlsError>,
}

/// The keys by name.
#[derive(Debug)]
struct ShownCertificates {
    default: Keys,
    by_name: HashMap<String, Keys>,
}

/// Those with the same name, in the order of the configuration: one, or one for each algorithm.
type Keys = SmallVec<[Arc<CertifiedKey>; 1]>;

impl CertificateSet {
    /// A set of these certificates, the default first; `None` if there is none.
    pub fn new(certificates: Vec<Certificate>) -> Option<Self> {
        let certificates: Vec<_> = certificates.into_iter().map(Arc::new).collect();
        let shown = ShownCertificates::of(&certificates)?;
        Some(Self { certificates: Mutex::new(certificates), shown: RwLock::new(Arc::new(shown)) })
    }

    /// All of them, the default first.
    pub fn all(&self) -> Vec<Arc<Certificate>> {
        self.certificates().clone()
    }

    /// Reloads each certificate whose files have changed: see [`Certificate::reload`].
    pub fn reload(&self, now: SystemTime) -> Vec<CertificateReload> {
        let certificates = self.certificates();
        let reload = |certificate: &Arc<Certificate>| CertificateReload {
            certificate: Arc::clone(certificate),
            result: certificate.reload(now),
        };
        let reloads: Vec<_> = certificates.iter().map(reload).collect();
        if reloads.iter().any(|reload| matches!(reload.result, Ok(true))) {
            self.show(&certificates);
        }
        reloads
    }

    /// Presents the certificates of another configuration from now on. A new certificate replaces the one with the same
    /// file. If there is none, it replaces the one at the same place in the list, if that is not configured any more;
    /// otherwise it is added. One that is not valid now does not replace one that is. `others` must not be empty.
    pub fn replace_with(
        &self,
        others: Vec<Certificate>,
        now: SystemTime,
    ) -> Vec<CertificateReload> {
        let mut certificates = self.certificates();
        let paths: Vec<_> = others.iter().map(Certificate::path).collect();
        let mut reloads = Vec::with_capacity(others.len());
        for (place, other) in others.into_iter().enumerate() {
            let same = certificates.iter().find(|old| old.path() == paths[place]);
            let moved = || certificates.get(place).filter(|old| !paths.contains(&old.path()));
            reloads.push(match same.or_else(moved).map(Arc::clone) {
                Some(certificate) => {
                    let result = certificate.replace_with(other, now).map(|()| true);
                    CertificateReload { certificate, result }
                }
                None => CertificateReload { certificate: Arc::new(other), result: Ok(true) },
            });
        }
        *certificates = reloads.iter().map(|reload| Arc::clone(&reload.certificate)).collect();
        self.show(&certificates);
        reloads
    }

    /// Returns the key to show to a client that asks for this host and supports these signature schemes.
    fn choose(&self, host: Option<&str>, offered: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let shown = Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner));
        let keys = host.and_then(|host| shown.keys(host)).unwrap_or(&shown.default);
        let is_known = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(offered).is_some();
        // Without a common algorithm the handshake fails with its own error.
        Arc::clone(keys.iter().find(is_known).unwrap_or(&keys[0]))
    }

    fn show(&self, certificates: &[Arc<Certificate>]) {
        if let Some(shown) = ShownCertificates::of(certificates) {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
        }
    }

    fn certificates(&self) -> MutexGuard<'_, Vec<Arc<Certificate>>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name(), hello.signature_schemes()))
    }
}

impl ShownCertificates {
    fn of(certificates: &[Arc<Certificate>]) -> Option<Self> {
        let mut by_name: HashMap<String, Keys> = HashMap::new();
        for certificate in certificates {
            let (key, names) = certificate.shown();
            for host in names.hosts() {
                by_name.entry(host.clone()).or_default().push(Arc::clone(&key));
            }
        }
        Some(Self { default: smallvec![certificates.first()?.shown().0], by_name })
    }

    fn keys(&self, host: &str) -> Option<&Keys> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.by_name.get(&host).or_else(|| self.by_name.get(&wildcard_of(&host)?))
    }
}

/// Describes conflicts among these certificates: a name for which only the first certificate is ever shown, and a
/// certificate that is never shown at all.
pub fn conflicts(certificates: &[Certificate]) -> Vec<String> {
    let mut warnings = Vec::new();
    // The path of the first certificate with this name and algorithm.
    let mut first_with = HashMap::new();
    for (place, certificate) in certificates.iter().enumerate() {
        let (key, names) = certificate.shown();
        let algorithm = u8::from(key.key.algorithm());
        let path = certificate.path();
        if names.hosts().is_empty() && place > 0 {
            warnings.push(format!(
                "{}: it is never used: it has no host name in subjectAltName, and only the first certificate is used for \
                 other names",
                path.display()
            ));
        }
        for host in names.hosts() {
            let first = first_with.entry((host.clone(), algorithm)).or_insert_with(|| path.clone());
            if *first != path {
                warnings.push(format!(
                    "{}: {host} is also a name of {}, which is shown in its place",
                    path.display(),
                    first.display()
                ));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
