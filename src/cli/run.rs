//! `ssegate run`: the gateway, as gateway.yaml describes it.

use clap::Args;
use ssegate::config::Settings;
use ssegate::gateway::Gateway;

use super::config::ConfigFile;
use super::{Error, banner, logging};

/// Run the gateway (also without a command)
///
/// SIGTERM and SIGINT end it in order: no new connections, every stream is told when to come back,
/// requests under way finish. A second signal ends it at once.
#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    config: ConfigFile,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Error> {
        let settings = self.config.load()?;
        start(settings)
    }
}

/// Runs the gateway until a signal ends it: also for `ssegate dev`.
pub(super) fn start(settings: Settings) -> Result<(), Error> {
    logging::start();
    let gateway = Gateway::open(settings)?;
    banner::show(gateway.settings());
    Ok(gateway.run()?)
}
