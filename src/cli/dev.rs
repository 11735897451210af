//! `ssegate dev`: runs the gateway without configuration, Redis or certificate.

use std::net::SocketAddr;

use clap::{Args, ValueHint};
use ssegate::config::{self, Settings};
use ssegate::gateway::StartMode;
use ssegate::source::SourceLocation;

use super::{CliError, number, run};

/// Run without configuration: embedded bus, self-signed certificate, demo page
///
/// Serves streams at /events/{channel} and /events?channel={channel}. Every other path serves the
/// demo page, or is forwarded to the backend of --to.
#[derive(Args, Debug)]
pub(crate) struct DevCommand {
    /// Forward to this backend in place of the demo page, for example http://127.0.0.1:8000
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    to: Option<String>,
    /// Port for HTTPS; 0 picks a free port, here and below [default: 8443]
    #[arg(long, value_name = "PORT", value_parser = number::port)]
    https_port: Option<u16>,
    /// Port for plain HTTP [default: 8080]
    #[arg(long, value_name = "PORT", value_parser = number::port)]
    http_port: Option<u16>,
    /// Port for /metrics, /readyz and the status page [default: 9464]
    #[arg(long, value_name = "PORT", value_parser = number::port)]
    admin_port: Option<u16>,
    /// Port for the embedded bus, which Redis clients publish to [default: 6380]
    #[arg(long, value_name = "PORT", value_parser = number::port)]
    bus_port: Option<u16>,
}

impl DevCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let backend = self.to.as_deref().map(config::upstream).transpose();
        let backend = backend.map_err(|error| CliError::Usage(format!("--to: {error}")))?;
        let mut settings = Settings::dev(backend);
        let addresses = addresses(&mut settings);
        let ports = [self.https_port, self.http_port, self.admin_port, self.bus_port];
        for ((_, address), port) in addresses.into_iter().zip(ports) {
            address.set_port(port.unwrap_or_else(|| address.port()));
        }
        let options = addresses_of(&settings);
        // The URL, since a gateway.yaml in this directory would lead `pub` to another Redis.
        let publish = match settings.source.location {
            SourceLocation::Embedded(bus) if bus.port() != 0 => {
                Some(format!("--redis redis://{bus}"))
            }
            _ => None,
        };
        run::start(settings, StartMode::Fresh, None, publish.as_deref())
            .map_err(|error| with_option(error, &options))
    }
}

/// Every listening address, with the option that sets its port.
fn addresses(settings: &mut Settings) -> Vec<(&'static str, &mut SocketAddr)> {
    let listeners = settings.listeners.iter_mut().map(|listener| &mut listener.address);
    let admin = settings.admin.iter_mut().map(|admin| &mut admin.address);
    let bus = match &mut settings.source.location {
        SourceLocation::Embedded(address) => Some(address),
        SourceLocation::Redis(_) => None,
    };
    let options = ["--https-port", "--http-port", "--admin-port", "--bus-port"];
    options.into_iter().zip(listeners.chain(admin).chain(bus)).collect()
}

fn addresses_of(settings: &Settings) -> Vec<(&'static str, SocketAddr)> {
    let mut settings = settings.clone();
    let addresses = addresses(&mut settings).into_iter();
    addresses.map(|(option, address)| (option, *address)).collect()
}

/// If the error is a port in use, adds the option that chooses another port.
fn with_option(error: CliError, options: &[(&'static str, SocketAddr)]) -> CliError {
    let taken = match &error {
        CliError::Gateway(error) => error.address_in_use(),
        _ => None,
    };
    match options.iter().find(|(_, address)| Some(*address) == taken) {
        Some((option, _)) => CliError::PortInUse(Box::new(error), option),
        None => error,
    }
}
