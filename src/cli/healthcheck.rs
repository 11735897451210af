//! `ssegate healthcheck`: requests `/livez` or `/readyz` of a running gateway, for containers that
//! have no shell or curl.

use clap::Args;

use super::admin_listener::AdminListener;
use super::{CliError, output};

const MAX_BODY_BYTES: usize = 64 << 10;

/// Exit with 0 if the gateway is alive (or ready)
#[derive(Args, Debug)]
pub(crate) struct HealthcheckCommand {
    /// Request /readyz (subscribed to Redis and not draining?) instead of /livez
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    pub(super) admin: AdminListener,
}

impl HealthcheckCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let path = if self.ready { "/readyz?verbose" } else { "/livez" };
        // The status alone is the verdict.
        let body = self.admin.get(path, MAX_BODY_BYTES)?.unwrap_or_default();
        // A failed write to stdout must not make a healthy gateway unhealthy.
        output::line(body.trim_end()).ok();
        Ok(())
    }
}
