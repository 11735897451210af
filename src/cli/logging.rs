//! Where log lines go: stderr; readable in a terminal, JSON on a pipe.

use std::io::{self, IsTerminal};

use ssegate::gateway;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// Starts to log what `SSEGATE_LOG` asks for, at most once in a process.
pub(super) fn start() {
    std::panic::set_hook(Box::new(tell_panic));
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

/// Logs where a panic happened. What it says only where that is known beforehand: a value that
/// makes its way into a message may be anybody's.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or_default();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(message, place, thread = thread.name(), "a bug: please report it");
}

fn silence(target: &str) -> Directive {
    format!("{target}=off").parse().expect("a target and a level make a directive")
}
