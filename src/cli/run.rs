//! `ssegate run`: the gateway, as gateway.yaml describes it.

use clap::Args;
use ssegate::config::Settings;
use ssegate::gateway::{Gateway, Load, Start};

use super::config::ConfigFile;
use super::{Error, banner, logging};

/// Run the gateway (also without a command)
///
/// SIGTERM and SIGINT end it in order: no new connections, every stream is told when to come back,
/// requests under way finish. A second signal ends it at once. SIGHUP reads the configuration again:
/// routes, limits, certificates and keys change, and no stream is closed.
#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    config: ConfigFile,
    /// Take the sockets over from the gateway that runs with this configuration; it then leaves
    ///
    /// No connection is refused meanwhile. Streams move over as the other one drains; their clients
    /// come back and are told with `event: gap` where something may be missing.
    #[arg(long)]
    takeover: bool,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Error> {
        let (settings, load) = self.config.load_to_run()?;
        let from = if self.takeover { Start::Takeover } else { Start::Fresh };
        let publish = self.config.argument();
        start(settings, from, Some(load), publish.as_deref())
    }
}

/// Runs the gateway until a signal ends it: also for `ssegate dev`, which has nothing to load again.
/// `publish` is what the banner puts behind `ssegate pub` (see [`banner::show`]).
pub(super) fn start(
    settings: Settings,
    from: Start,
    load: Option<Load>,
    publish: Option<&str>,
) -> Result<(), Error> {
    let log = logging::start().map_err(Error::Runtime)?;
    let gateway = Gateway::open(settings, from)?;
    log.count_in(gateway.metrics());
    banner::show(gateway.settings(), publish);
    Ok(gateway.run(load)?)
}
