//! The gateway, with a Redis.

use super::{Running, Settings, Site, free_address, redis, words};
use crate::Outcome;
use crate::process::Process;
use crate::publisher::Way;

/// Starts it with the defaults, except for `changed`: lines of gateway.yaml.
pub(super) fn start(site: &Site, settings: &Settings, changed: &str) -> Outcome<Running> {
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
{changed}routes:
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
