//! Where log lines go: stderr; readable in a terminal, JSON on a pipe.

use std::io::{self, IsTerminal};

use ssegate::gateway;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// Starts to log what `SSEGATE_LOG` asks for, at most once in a process.
pub(super) fn start() {
    std::panic::set_hook(Box::new(tell_panic));
    let asked = std::env::var("SSEGATE_LOG").unwrap_or_default();
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(&asked);
    // What a stranger sends it is counted, not told: he could fill the log with it.
    let filter = match asked.contains("rustls") {
        true => filter,
        false => filter.add_directive(directive("rustls=error")),
    };
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
    directive(&format!("{target}=off"))
}

fn directive(text: &str) -> Directive {
    text.parse().expect("a target and a level make a directive")
}
