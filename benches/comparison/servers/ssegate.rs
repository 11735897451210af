//! The gateway, with a Redis.

use super::{Running, Settings, Site, free_address, redis, words};
use crate::Outcome;
use crate::process::Process;
use crate::publisher::Way;

/// What differs from the defaults.
#[derive(Clone, Copy)]
pub(super) enum Variant {
    /// Nothing.
    Defaults,
    /// No events are kept for clients that come back.
    HistoryOff,
    /// Each request and stream is logged, however many there are. The lines go to a file.
    AccessLog,
}

pub(super) fn start(site: &Site, settings: &Settings, variant: Variant) -> Outcome<Running> {
    let (redis, publish_at) = redis::start(site)?;
    let [plain, tls, admin] = std::array::from_fn(|_| free_address());
    let config = site.directory.join("gateway.yaml");
    let text = format!(
        r#"listeners:
  - address: {plain}
  - address: {tls}
    tls:
      certificate: {certificate}
      key: {key}
admin:
  address: {admin}
redis:
  url: redis://{publish_at}
shards: {shards}
{variant}routes:
  - path: /events/{{channel}}
    events:
      channels: ["{{channel}}"]
      linger: {linger}
  - path: /patterns/{{channel}}
    events:
      channels: ["{{channel}}"]
      patterns: true
"#,
        certificate = site.certificate.certificate.display(),
        key = site.certificate.key.display(),
        shards = settings.shards,
        linger = settings.linger,
        variant = match variant {
            Variant::Defaults => "",
            Variant::HistoryOff => "sse: { history: off }\n",
            Variant::AccessLog => "log: { access: all, access_rate: 1000000 }\n",
        },
    );
    std::fs::write(&config, text)?;
    let arguments = words(["run", "-c", &config.display().to_string()]);
    let cores = &site.cores.servers;
    let gateway = Process::start("ssegate", cores, &site.directory, &site.ssegate, &arguments)?;
    Ok(Running {
        processes: vec![gateway],
        support: vec![redis],
        plain,
        tls: Some(tls),
        path: "/events/",
        way: Way::Redis,
        publish_at,
        admin: Some(admin),
    })
}
