//! Looks after the certificates of the listeners: shows new ones, and warns before they end.

use std::time::{Duration, SystemTime};

use crate::health::{Health, date};
use crate::metrics::Metrics;
use crate::server::certificate::{Certificate, ValidityStatus};
use crate::server::listener::Listener;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Runs as long as the gateway. A file that cannot be used changes nothing, and is logged once.
pub(super) async fn watch(listeners: Vec<Listener>, health: Health, metrics: Metrics) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut told = vec![(None, ValidityStatus::Valid); listeners.len()];
    loop {
        look.tick().await;
        let now = SystemTime::now();
        for (listener, told) in listeners.iter().zip(&mut told) {
            let Some(tls) = &listener.tls else { continue };
            let listener = listener.address.to_string();
            renew(&tls.certificate, &listener, &metrics, now);
            health.set_certificate(&listener, tls.certificate.problem(now));
            let Some(validity) = tls.certificate.validity() else { continue };
            let end = validity.not_after().duration_since(SystemTime::UNIX_EPOCH);
            metrics.certificate_expiry(&listener, end.unwrap_or_default().as_secs_f64());
            let standing = (Some(validity), validity.status(now));
            if std::mem::replace(told, standing) != standing {
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
            tracing::info!(listener, expires, "the certificate was read again");
        }
        Ok(false) => {}
        Err(error) => {
            metrics.certificate_reloaded(false);
            let shown = certificate.validity().map(|validity| date(validity.not_after()));
            let shown_expires = shown.map(tracing::field::display);
            tracing::error!(
                listener, %error, shown_expires, "the certificate cannot be used; the old one stays"
            );
        }
    }
}

/// Said when it begins to be so: also at the start.
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
            tracing::error!(listener, %file, problem, "clients do not take the certificate");
        }
    }
}
