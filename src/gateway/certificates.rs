//! Looks after the certificates of the listeners: shows new ones, and tells when they end.

use std::time::Duration;

use crate::metrics::Metrics;
use crate::server::listener::Listener;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Runs as long as the gateway. A file that cannot be used changes nothing, and is told once.
pub(super) async fn watch(listeners: Vec<Listener>, metrics: Metrics) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let shown = || listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    loop {
        look.tick().await;
        for (listener, tls) in shown() {
            let address = listener.address;
            match tls.certificate.renew() {
                Ok(true) => tracing::info!(%address, "the certificate was read again"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%address, %error, "the certificate cannot be used; the old one stays");
                }
            }
            if let Some(expires) = tls.certificate.expires() {
                #[expect(clippy::cast_precision_loss, reason = "exact until the year 285 million")]
                metrics.certificate_expiry(&address.to_string(), expires as f64);
            }
        }
    }
}
