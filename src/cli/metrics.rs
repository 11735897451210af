//! `ssegate metrics`: prints the metrics of a running gateway, for containers that have no shell or curl.

use clap::Args;

use super::admin_listener::AdminListener;
use super::{CliError, output};

/// The largest response: the metrics of a gateway with thousands of routes.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Print the metrics of a running gateway
#[derive(Args, Debug)]
pub(crate) struct MetricsCommand {
    /// Print only series whose name contains one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    pub(super) admin: AdminListener,
}

impl MetricsCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let text = self.admin.get("/metrics", MAX_BODY_BYTES)??;
        let wanted = text.split_inclusive('\n').filter(|line| self.is_wanted(line));
        output::bytes(wanted.collect::<String>().as_bytes())
    }

    /// All lines if no names are given. With names the comments (`# HELP`, `# TYPE`) are left out.
    fn is_wanted(&self, line: &str) -> bool {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let is_named = |wanted: &String| name.contains(wanted.as_str());
        self.names.is_empty() || (!line.starts_with('#') && self.names.iter().any(is_named))
    }
}
