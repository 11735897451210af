//! Sets up logging: text in a terminal, JSON on a pipe, unless gateway.yaml says otherwise. [`sink`] writes the
//! lines: those of the log to stderr, those of the access log to stdout.

mod sink;

use std::io::{self, IsTerminal};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ssegate::gateway;
use ssegate::log::{LineForm, LogFormat, LogLevel, LogOutput, LogSettings};
use ssegate::metrics::Metrics;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry, reload};

pub(super) use self::sink::Sink;

/// The filter of log lines, in the syntax of `tracing_subscriber::filter::Targets`: a level, or `target=level` with commas
/// between them.
const VARIABLE: &str = "SSEGATE_LOG";
/// How long a panic waits for its log line to be written: the process may end right after.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_millis(50);

/// The sink of this process, once logging has started.
static SINK: OnceLock<Sink> = OnceLock::new();
/// The sink of the access log of this process, once logging has started.
static ACCESS_SINK: OnceLock<Sink> = OnceLock::new();

/// Where the log and the access log of a gateway are written.
pub(super) struct Logging {
    log: Sink,
    access: Sink,
    /// What the gateway needs of it.
    pub(super) output: LogOutput,
}

impl Logging {
    /// Counts dropped lines in `metrics`.
    pub(super) fn record_in(&self, metrics: &Metrics) {
        self.log.record_in(metrics);
        self.access.record_in(metrics);
    }
}

/// Starts logging with the filter in `SSEGATE_LOG`, or else with the level of `settings`. Called at most once in
/// a process.
///
/// # Errors
/// A writer thread cannot be spawned.
pub(super) fn start(settings: &LogSettings) -> io::Result<Logging> {
    let (sink, access) = (Sink::to_stderr()?, Sink::to_stdout()?);
    std::panic::set_hook(Box::new(log_panic));
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let error = variable.as_deref().and_then(|text| filter(text).1);
    let variable = variable.filter(|_| error.is_none());
    let text = variable.clone().unwrap_or_else(|| settings.level.as_str().to_owned());
    let is_terminal = io::stderr().is_terminal();
    let first = stderr_filter(&text, is_terminal);
    let set_filter = install(sink.clone(), first, is_text(settings, is_terminal), is_terminal);
    let set_level = move |level: Option<LogLevel>| {
        let text = match level {
            Some(level) => level.as_str(),
            None => &text,
        };
        set_filter(stderr_filter(text, is_terminal));
    };
    if let Some(error) = error {
        tracing::warn!(
            error,
            "{VARIABLE} is ignored: it is not a level (error, warn, info, debug or trace) or a filter"
        );
    }
    let lines = access.clone();
    let output = LogOutput {
        form: match is_text(settings, io::stdout().is_terminal()) {
            true => LineForm::Combined,
            false => LineForm::Json,
        },
        write: Arc::new(move |line| lines.put(line)),
        set_level: Arc::new(set_level),
        filter: variable,
    };
    let log = SINK.get_or_init(|| sink).clone();
    let access = ACCESS_SINK.get_or_init(|| access).clone();
    Ok(Logging { log, access, output })
}

/// Changes the filter of the log.
type SetFilter = Arc<dyn Fn(Targets) + Send + Sync>;

/// Lets `tracing` write to `sink`. Returns what changes the filter.
fn install(sink: Sink, first: Targets, is_text: bool, has_colors: bool) -> SetFilter {
    let (filter, handle) = reload::Layer::new(first);
    // By default a failed log line is reported on stderr, which may be what has failed.
    let lines = fmt::layer().log_internal_errors(false).with_writer(sink);
    if is_text {
        let lines = lines.compact().with_target(false).with_ansi(has_colors);
        registry().with(filter).with(lines).init();
    } else {
        registry().with(filter).with(lines.json()).init();
    }
    // It fails only once the subscriber is gone.
    Arc::new(move |filter| handle.reload(filter).unwrap_or_default())
}

/// Waits until what was logged is written, for a few seconds at most.
pub(super) fn flush() {
    for sink in [ACCESS_SINK.get(), SINK.get()].into_iter().flatten() {
        sink.flush();
    }
}

fn is_text(settings: &LogSettings, is_terminal: bool) -> bool {
    match settings.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Json => false,
        LogFormat::Text => true,
    }
}

/// The filter of this text for stderr.
fn stderr_filter(text: &str, is_terminal: bool) -> Targets {
    let filter = filter(text).0;
    match is_terminal {
        // In a terminal the banner shows the open addresses.
        true => filter.with_target(gateway::OPENED, LevelFilter::OFF),
        false => filter,
    }
}

/// The sink of this process, if logging has started.
pub(super) fn sink() -> Option<&'static Sink> {
    SINK.get()
}

/// Parses the filter. Returns the default filter and the error if it is not valid.
fn filter(text: &str) -> (Targets, Option<String>) {
    let default = || Targets::new().with_default(LevelFilter::INFO);
    let parsed = level_or_filter(text).and_then(|()| match text.is_empty() {
        true => Ok(default()),
        false => Ok(text.parse::<Targets>()?),
    });
    let (filter, error) = match parsed {
        Ok(filter) => (filter, None),
        Err(error) => (default(), Some(error.to_string())),
    };
    // rustls warns of invalid TLS records. They are counted instead: clients could fill the log.
    match text.contains("rustls") {
        true => (filter, error),
        false => (filter.with_target("rustls", LevelFilter::ERROR), error),
    }
}

/// Rejects a single word that is not a level: as a filter it would be a module, and turn off the log of
/// all others.
fn level_or_filter(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    if is_word && !text.starts_with("ssegate") && text.parse::<LevelFilter>().is_err() {
        return Err(format!("{text} is not a level").into());
    }
    Ok(())
}

/// Logs a panic with its location. The message is logged only if it is a literal: a formatted one
/// may contain a client's data.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let cause = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or_default();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    write_panic(cause, &place);
    if let Some(sink) = sink() {
        // The process may be about to abort. If not, a request is waiting on this thread: the wait
        // is short.
        sink.flush_last_line(PANIC_FLUSH_TIMEOUT);
    }
}

/// Not `message` for the cause: that is the key of the line's own text.
fn write_panic(cause: &str, place: &str) {
    let thread = std::thread::current();
    tracing::error!(cause, place, thread = thread.name(), "panic: a bug; please report it");
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::{filter, write_panic};

    #[test]
    fn the_line_of_a_panic_has_each_key_once() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let log = tracing_subscriber::fmt().json().with_writer(std::sync::Mutex::new(writer));
        tracing::subscriber::with_default(log.finish(), || write_panic("a cause", "a.rs:1:2"));
        let mut line = String::new();
        reader.read_to_string(&mut line).expect("UTF-8");
        for key in ["message", "cause", "place", "thread"] {
            assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key} in {line}");
        }
        assert!(line.contains("\"cause\":\"a cause\""), "{line}");
    }

    #[test]
    fn an_invalid_filter_is_reported_and_replaced_by_the_default() {
        for text in ["", "debug", "ssegate=trace,hyper=info", "rustls=debug"] {
            assert_eq!(filter(text).1, None, "{text}");
        }
        let (default, error) = filter("ssegate=nonsense");
        assert!(error.is_some());
        assert_eq!(default, filter("").0);
    }
}
