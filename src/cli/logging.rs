//! Where log lines go: stderr; readable in a terminal, JSON on a pipe.

use std::io::{self, IsTerminal};

use ssegate::gateway;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// Starts to log what `SSEGATE_LOG` asks for, at most once in a process.
pub(super) fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("SSEGATE_LOG")
        .from_env_lossy();
    if io::stderr().is_terminal() {
        // The banner has told what is open, for people.
        let filter = filter.add_directive(silence(gateway::OPENED));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        log.compact().with_target(false).init();
    } else {
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        log.json().init();
    }
}

fn silence(target: &str) -> Directive {
    format!("{target}=off").parse().expect("a target and a level make a directive")
}
