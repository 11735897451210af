//! `ssegate run`: runs the gateway with gateway.yaml.

use clap::Args;
use ssegate::config::Settings;
use ssegate::gateway::{ConfigLoader, Gateway, StartMode};

use super::config::ConfigFile;
use super::{CliError, banner, logging};

/// Run the gateway (the default command)
///
/// SIGTERM and SIGINT shut it down gracefully: it accepts no new connections, ends streams with a
/// time to reconnect, and finishes running requests. A second signal stops it at once. SIGHUP
/// reloads the configuration: routes, limits, certificates and keys change, and no stream is
/// closed. SIGUSR1 logs at the level debug, or again as configured.
#[derive(Args, Debug)]
pub(crate) struct RunCommand {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// Take over the sockets of the gateway that runs with this configuration, which then drains
    ///
    /// No connection is refused meanwhile. Clients reconnect to the new gateway as the old one
    /// drains, and get `event: gap` if they may have missed events.
    #[arg(long)]
    takeover: bool,
}

impl RunCommand {
    /// Given before another command: returns its `-c FILE`, which means the same there.
    ///
    /// # Errors
    /// `--takeover`, which is no option of another command.
    pub(super) fn options_before_command(self) -> Result<ConfigFile, CliError> {
        if self.takeover {
            let error = "--takeover is an option of `ssegate run`: write it after that command";
            return Err(CliError::Usage(error.into()));
        }
        Ok(self.config)
    }

    pub(super) fn execute(self) -> Result<(), CliError> {
        let (settings, load) = self.config.load_with_reloader()?;
        let from = if self.takeover { StartMode::Takeover } else { StartMode::Fresh };
        let publish = self.config.argument();
        start(settings, from, Some(load), publish.as_deref())
    }
}

/// Runs the gateway until a signal. `load` reloads the configuration (`None` for `ssegate dev`);
/// `publish` holds the arguments of `ssegate pub` for the banner (see [`banner::show`]).
pub(super) fn start(
    settings: Settings,
    from: StartMode,
    load: Option<ConfigLoader>,
    publish: Option<&str>,
) -> Result<(), CliError> {
    let log = logging::start(&settings.log).map_err(CliError::Runtime)?;
    let gateway = Gateway::open(settings, from)?;
    log.record_in(gateway.metrics());
    banner::show(gateway.settings(), publish);
    Ok(gateway.run(load, log.output)?)
}
