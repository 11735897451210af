//! What is logged, and how: readable in a terminal, JSON on a pipe. [`sink`] is where it goes.

mod sink;

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use ssegate::gateway;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

pub(super) use self::sink::Sink;

/// Says what is logged.
const VARIABLE: &str = "SSEGATE_LOG";
/// The line of a panic is written before the process can end, if that takes no longer.
const LAST_LINE: Duration = Duration::from_millis(50);

/// The sink of this process, once it logs.
static SINK: OnceLock<Sink> = OnceLock::new();

/// Starts to log what `SSEGATE_LOG` asks for, at most once in a process.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start() -> io::Result<Sink> {
    let sink = Sink::to_stderr()?;
    std::panic::set_hook(Box::new(tell_panic));
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let (filter, mistake) = filter(&asked);
    // Faults of a log line are nothing to be told on standard error, which may be what is at fault.
    let log = tracing_subscriber::fmt().log_internal_errors(false).with_writer(sink.clone());
    if io::stderr().is_terminal() {
        // The banner has told what is open, for people.
        let filter = filter.add_directive(silence(gateway::OPENED));
        log.with_env_filter(filter).compact().with_target(false).init();
    } else {
        log.with_env_filter(filter).json().init();
    }
    if let Some(mistake) = mistake {
        tracing::warn!(mistake, "{VARIABLE} cannot be read, and is not heeded");
    }
    Ok(SINK.get_or_init(|| sink).clone())
}

/// The sink of this process, where it logs.
pub(super) fn sink() -> Option<&'static Sink> {
    SINK.get()
}

/// The filter that is asked for, or the usual one and why.
fn filter(asked: &str) -> (EnvFilter, Option<String>) {
    let builder = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    // Not `parse_lossy`: that writes to standard error itself, and panics where it cannot.
    let (filter, mistake) = match builder().parse(asked) {
        Ok(filter) => (filter, None),
        Err(mistake) => {
            let usual = builder().parse("").expect("the default directive is one");
            (usual, Some(mistake.to_string()))
        }
    };
    // What a stranger sends it is counted, not logged: he could fill the log with it.
    match asked.contains("rustls") {
        true => (filter, mistake),
        false => (filter.add_directive(directive("rustls=error")), mistake),
    }
}

/// Logs where a panic happened. What it says only where that is known beforehand: a value that
/// makes its way into a message may be anybody's.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or_default();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(message, place, thread = thread.name(), "a bug: please report it");
    if let Some(sink) = sink() {
        // It may be the last thing that this process does, or cost a request and hold up its shard.
        sink.flush_last_line(LAST_LINE);
    }
}

fn silence(target: &str) -> Directive {
    directive(&format!("{target}=off"))
}

fn directive(text: &str) -> Directive {
    text.parse().expect("a target and a level make a directive")
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_filter_that_cannot_be_read_is_told_and_the_usual_one_holds() {
        for asked in ["", "debug", "ssegate=trace,hyper=info", "rustls=debug"] {
            assert_eq!(filter(asked).1, None, "{asked}");
        }
        let (usual, mistake) = filter("ssegate=nonsense");
        assert!(mistake.is_some());
        assert_eq!(usual.to_string(), filter("").0.to_string());
    }
}
