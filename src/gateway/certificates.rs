//! Watches the certificates of the listeners: reloads changed files, and warns before they expire.

use std::time::{Duration, SystemTime};

use crate::health::{Health, date};
use crate::metrics::Metrics;
use crate::server::certificate::{Certificate, ValidityStatus};
use crate::server::listener::Listener;

/// The interval at which the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Runs as long as the gateway. A file that cannot be used is logged once; the certificate in use
/// stays.
pub(super) async fn watch(listeners: Vec<Listener>, health: Health, metrics: Metrics) {
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    let mut reported = vec![(None, ValidityStatus::Valid); listeners.len()];
    loop {
        interval.tick().await;
        let now = SystemTime::now();
        for (listener, reported) in listeners.iter().zip(&mut reported) {
            let Some(tls) = &listener.tls else { continue };
            let listener = listener.address.to_string();
            renew(&tls.certificate, &listener, &metrics, now);
            health.set_certificate(&listener, tls.certificate.problem(now));
            let Some(validity) = tls.certificate.validity() else { continue };
            let end = validity.not_after().duration_since(SystemTime::UNIX_EPOCH);
            metrics.certificate_expiry(&listener, end.unwrap_or_default().as_secs_f64());
            let standing = (Some(validity), validity.status(now));
            if std::mem::replace(reported, standing) != standing {
                warn(&tls.certificate, &listener, standing.1, now);
            }
        }
    }
}

fn renew(certificate: &Certificate, listener: &str, metrics: &Metrics, now: SystemTime) {
    match certificate.reload(now) {
        Ok(true) => {
            metrics.certificate_reloaded(true);
            let expires = certificate.validity().map(|validity| date(validity.not_after()));
            let expires = expires.map(tracing::field::display);
            tracing::info!(listener, expires, "certificate reloaded");
        }
        Ok(false) => {}
        Err(error) => {
            metrics.certificate_reloaded(false);
            let shown = certificate.validity().map(|validity| date(validity.not_after()));
            let shown_expires = shown.map(tracing::field::display);
            tracing::error!(
                listener, %error, shown_expires,
                "cannot reload the certificate; the old one stays in use"
            );
        }
    }
}

/// Logs a change of the certificate's standing, including the first at start.
fn warn(certificate: &Certificate, listener: &str, standing: ValidityStatus, now: SystemTime) {
    let file = certificate.path();
    let file = file.display();
    let problem = certificate.validity().and_then(|validity| validity.problem(now));
    match standing {
        ValidityStatus::Valid => {}
        ValidityStatus::ExpiresSoon | ValidityStatus::ExpiresVerySoon => {
            tracing::warn!(listener, %file, problem, "the certificate expires soon");
        }
        ValidityStatus::NotYetValid | ValidityStatus::Expired => {
            tracing::error!(listener, %file, problem, "clients reject the certificate");
        }
    }
}
