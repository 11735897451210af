//! `ssegate dev`: the gateway without configuration, Redis or certificate.

use clap::{Args, ValueHint};
use ssegate::config::{self, Settings};
use ssegate::gateway::Start;

use super::{Error, run};

/// Run without configuration: embedded bus, local certificate, demo page
///
/// /events/{channel} and /events?channel={channel} are streams. The rest is the demo page, or what
/// a backend says.
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// A backend in place of the demo page, for example http://127.0.0.1:8000
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    to: Option<String>,
}

impl Dev {
    pub(super) fn execute(self) -> Result<(), Error> {
        let backend = self.to.as_deref().map(config::upstream).transpose();
        let backend = backend.map_err(|mistake| Error::Usage(format!("--to: {mistake}")))?;
        run::start(Settings::dev(backend), Start::Fresh, None)
    }
}
