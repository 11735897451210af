//! `ssegate metrics`: prints the metrics of a running gateway, for containers that have no shell or curl.

use clap::Args;

use super::admin_listener::AdminListener;
use super::{CliError, output};

/// The largest response: the metrics of a gateway with thousands of routes.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Print the metrics of a running gateway
///
/// Exits with 1 if no series has one of the names.
#[derive(Args, Debug)]
pub(crate) struct MetricsCommand {
    /// Print only series whose name contains one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    pub(super) admin: AdminListener,
}

/// No name of a series contains one of these. An exit code of 1, as of grep(1).
#[derive(Debug, thiserror::Error)]
#[error("no metric has {} in its name; all of them: ssegate metrics", .0.join(" or "))]
struct NoMetric(Vec<String>);

impl From<NoMetric> for CliError {
    fn from(error: NoMetric) -> Self {
        Self::Command(error.into())
    }
}

impl MetricsCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let text = self.admin.get("/metrics", MAX_BODY_BYTES)??;
        let wanted = text.split_inclusive('\n').filter(|line| self.is_wanted(line));
        let wanted: String = wanted.collect();
        if wanted.is_empty() && !self.names.is_empty() {
            return Err(NoMetric(self.names).into());
        }
        output::bytes(wanted.as_bytes())
    }

    /// All lines if no names are given. With names the comments (`# HELP`, `# TYPE`) are left out.
    fn is_wanted(&self, line: &str) -> bool {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let is_named = |wanted: &String| name.contains(wanted.as_str());
        self.names.is_empty() || (!line.starts_with('#') && self.names.iter().any(is_named))
    }
}
