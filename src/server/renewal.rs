//! The certificate that a listener shows, read again when its files change.
//!
//! Whoever renews certificates (certbot, a container's volume) writes new files; nobody restarts
//! the gateway. Open connections keep what they were shown. Files that cannot be used, because they
//! are being written say, change nothing: the old certificate stays until they can.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::tls::{TlsError, expiry, load};

/// How often the files are looked at: no watch, since it would miss a renamed or mounted folder.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The certificate and its key, and where they were read.
#[derive(Clone)]
pub struct Served(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

/// When the files were written, and how long they are.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Served {
    /// Reads both files.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(load(certificate, key)?));
        Ok(Self(Arc::new(Inner { certificate: certificate.into(), key: key.into(), current })))
    }

    /// When the certificate ends, in seconds of Unix time; `None` if it cannot be read.
    pub fn expires(&self) -> Option<i64> {
        self.current().cert.first().and_then(expiry)
    }

    /// Looks at the files for ever, and tells `renewed` of each new certificate. Owned by the
    /// gateway, which drops it.
    pub async fn watch(self, renewed: impl Fn(&Self)) {
        let mut known = self.stamp().await;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            look.tick().await;
            let stamp = self.stamp().await;
            if stamp != known {
                known = stamp;
                if self.read_again() {
                    renewed(&self);
                }
            }
        }
    }

    fn read_again(&self) -> bool {
        let Inner { certificate, key, current } = &*self.0;
        let path = certificate.display();
        match load(certificate, key) {
            Ok(new) => {
                *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(%path, "the certificate was renewed");
                true
            }
            Err(error) => {
                tracing::warn!(%path, %error, "the new certificate cannot be used, the old one stays");
                false
            }
        }
    }

    async fn stamp(&self) -> Stamp {
        let written = async |path: &Path| {
            let metadata = tokio::fs::metadata(path).await.ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        [written(&self.0.certificate).await, written(&self.0.key).await]
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Served {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Served").field(&self.0.certificate).finish()
    }
}
