//! Where log lines go: stderr; readable in a terminal, JSON on a pipe.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts to log what `SSEGATE_LOG` asks for, at most once in a process.
pub(super) fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("SSEGATE_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        log.compact().with_target(false).init();
    } else {
        log.json().init();
    }
}
