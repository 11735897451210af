//! Watches the certificates of the listeners: reloads changed files, and warns before they expire.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::health::{Health, date};
use crate::metrics::Metrics;
use crate::server::certificate::{Certificate, CertificateReload, Validity, ValidityStatus};
use crate::server::listener::Listener;

/// The interval at which the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Which certificate of which listener: the listener's address, and the certificate's file.
type CertificateName = (String, String);

/// The state of a certificate that was last logged.
type Standing = (Option<Validity>, ValidityStatus);

/// What was last reported of the certificates in use, to the metrics, `/readyz` and the log.
struct CertificateReports {
    health: Health,
    metrics: Metrics,
    standings: BTreeMap<CertificateName, Standing>,
}

/// Runs as long as the gateway. A file that cannot be used is logged once; the certificate in use
/// stays.
pub(super) async fn watch(listeners: Vec<Listener>, health: Health, metrics: Metrics) {
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    let mut reports = CertificateReports { health, metrics, standings: BTreeMap::new() };
    loop {
        interval.tick().await;
        let now = SystemTime::now();
        let mut seen = BTreeMap::new();
        for listener in &listeners {
            let Some(tls) = &listener.tls else { continue };
            for reload in tls.certificates.reload(now) {
                let name = name(listener.address, &reload.certificate.path());
                reloaded(&name, &reload, &reports.metrics);
                let standing = reports.report(&name, &reload.certificate, now);
                seen.insert(name, standing);
            }
        }
        reports.forget_all_but(seen);
    }
}

impl CertificateReports {
    /// Reports a certificate in use to the metrics, `/readyz` and the log.
    fn report(
        &self,
        name: &CertificateName,
        certificate: &Certificate,
        now: SystemTime,
    ) -> Standing {
        let (listener, file) = name;
        self.health.set_certificate(&about(name), certificate.problem(now));
        let validity = certificate.validity();
        let end = validity.map(|validity| validity.not_after());
        self.metrics.certificate_in_use(listener, file, end);
        let standing = (validity, validity.map_or(ValidityStatus::Valid, |it| it.status(now)));
        let before = self.standings.get(name).copied();
        if before.unwrap_or((None, ValidityStatus::Valid)) != standing {
            warn(name, standing, now);
        }
        standing
    }

    /// Forgets those that a reload has taken out of the configuration.
    fn forget_all_but(&mut self, seen: BTreeMap<CertificateName, Standing>) {
        for name in self.standings.keys().filter(|name| !seen.contains_key(*name)) {
            self.health.set_certificate(&about(name), None);
            self.metrics.certificate_gone(&name.0, &name.1);
        }
        self.standings = seen;
    }
}

/// Logs and counts the certificate reloads of a listener after a configuration reload.
pub(super) fn replaced(address: SocketAddr, reloads: &[CertificateReload], metrics: &Metrics) {
    for reload in reloads {
        let (listener, file) = name(address, &reload.certificate.path());
        metrics.certificate_reloaded(&listener, &file, reload.result.is_ok());
        if let Err(error) = &reload.result {
            tracing::error!(listener, file, %error, "the certificate stays unchanged");
        }
    }
}

fn reloaded((listener, file): &CertificateName, reload: &CertificateReload, metrics: &Metrics) {
    let expires = || {
        let validity = reload.certificate.validity();
        validity.map(|validity| date(validity.not_after())).map(tracing::field::display)
    };
    match &reload.result {
        Ok(true) => {
            metrics.certificate_reloaded(listener, file, true);
            tracing::info!(listener, file, expires = expires(), "certificate reloaded");
        }
        Ok(false) => {}
        Err(error) => {
            metrics.certificate_reloaded(listener, file, false);
            tracing::error!(
                listener, file, %error, shown_expires = expires(),
                "cannot reload the certificate; the old one stays in use"
            );
        }
    }
}

/// Logs a change of the certificate's state, including the first at the start.
fn warn((listener, file): &CertificateName, (validity, status): Standing, now: SystemTime) {
    let problem = validity.and_then(|validity| validity.problem(now));
    match status {
        ValidityStatus::Valid => {}
        ValidityStatus::ExpiresSoon | ValidityStatus::ExpiresVerySoon => {
            tracing::warn!(listener, file, problem, "the certificate expires soon");
        }
        ValidityStatus::NotYetValid | ValidityStatus::Expired => {
            tracing::error!(listener, file, problem, "clients reject the certificate");
        }
    }
}

fn name(listener: SocketAddr, file: &Path) -> CertificateName {
    (listener.to_string(), file.display().to_string())
}

fn about((listener, file): &CertificateName) -> String {
    format!("{listener}, {file}")
}
