//! `ssegate sub`: follows streams and prints their events.
//!
//! A task for each stream reads it and sends its events over one bounded queue; the main task
//! prints them and decides when to stop.

mod follow;
mod print;
pub(super) mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::follow::{Follow, Heard};
use self::print::Printer;
use super::config::ConfigFile;
use super::http_client::HttpClient;
use super::{Error, block_on, time};

/// Why a stream has not opened, until there is another reason.
const NO_ANSWER: &str = "no response";

/// 204 tells an `EventSource` to stop reconnecting (WHATWG HTML, section 9.2.1).
const STOPPED: &str = "the server responded 204 No Content, which tells clients not to reconnect";

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Follow event streams and print their events
///
/// Behaves as a browser's EventSource: when a stream ends, it reconnects after the server's retry
/// time, with Last-Event-ID. Stop it with Ctrl-C. Exits with 1 if a stream never opened, or if all
/// servers responded 204 before --count events were received.
#[derive(Args, Debug)]
pub(crate) struct Sub {
    /// A URL, or a channel of the gateway that the configuration describes
    #[arg(required = true, value_name = "URL|CHANNEL")]
    targets: Vec<String>,
    /// Exit after N events
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit after this time, for example 10s; with 1 if fewer than --count events were received
    #[arg(long = "for", value_name = "TIME", value_parser = time::parse)]
    time: Option<Duration>,
    /// Print each event as a line of JSON with from, event, id and data
    #[arg(long)]
    json: bool,
    /// Send this header, for example "Authorization: Bearer …"
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// Why `ssegate sub` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubError {
    /// `--for` elapsed before `--count` events were received.
    #[error("received {heard} of {count} events in {time:?}{}", hint(.never_open))]
    TooFew {
        /// The number of events received.
        heard: u64,
        /// The value of `--count`.
        count: u64,
        /// The value of `--for`.
        time: Duration,
        /// The streams that never opened.
        never_open: Vec<NeverOpen>,
    },
    /// All servers responded 204 before `--count` events were received.
    #[error("received {heard} of {count} events, then the server responded 204 No Content")]
    Stopped {
        /// The number of events received.
        heard: u64,
        /// The value of `--count`.
        count: u64,
    },
    /// Streams that never opened.
    #[error("{}", joined(.0))]
    NeverOpen(Vec<NeverOpen>),
    /// A response that ends an `EventSource` for good: the URL and what is wrong.
    #[error("{0}: {1}")]
    NoStream(String, String),
}

/// A stream that never opened.
#[derive(Debug, thiserror::Error)]
#[error("{name} never opened: {reason}")]
pub(crate) struct NeverOpen {
    name: Arc<str>,
    reason: String,
}

fn joined(streams: &[NeverOpen]) -> String {
    streams.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn hint(streams: &[NeverOpen]) -> String {
    if streams.is_empty() { String::new() } else { format!("; {}", joined(streams)) }
}

/// The number of events, and which streams have opened.
struct Progress {
    events: u64,
    // Streams that have not opened yet, with the reason.
    closed: BTreeMap<Arc<str>, String>,
    // Streams that are open for the first time. One that ends at once with a reason moves back to
    // `closed`: its server had no stream.
    opened: BTreeSet<Arc<str>>,
}

impl Progress {
    fn note(&mut self, heard: &Heard) {
        match heard {
            Heard::Event { .. } => self.events += 1,
            Heard::Open { from, .. } => {
                if self.closed.remove(from).is_some() {
                    self.opened.insert(Arc::clone(from));
                }
            }
            Heard::Lost { from, reason, sent_away, .. } => {
                let was_first = self.opened.remove(from);
                if was_first && *sent_away || self.closed.contains_key(from) {
                    self.closed.insert(Arc::clone(from), reason.clone());
                }
            }
            Heard::Stopped { from } => {
                if let Some(reason) = self.closed.get_mut(from) {
                    STOPPED.clone_into(reason);
                }
            }
            Heard::Waiting { .. } | Heard::TooLarge { .. } => {}
        }
    }

    fn never_open(&mut self) -> Vec<NeverOpen> {
        let closed = std::mem::take(&mut self.closed).into_iter();
        closed.map(|(name, reason)| NeverOpen { name, reason }).collect()
    }

    /// The result at the end: an error if a stream never opened.
    fn end(&mut self) -> Result<(), Error> {
        match self.never_open() {
            never_open if never_open.is_empty() => Ok(()),
            never_open => Err(SubError::NeverOpen(never_open).into()),
        }
    }
}

impl Sub {
    pub(super) fn execute(self) -> Result<(), Error> {
        let headers = headers(&self.headers)?;
        let targets = target::resolve(&self.targets, &self.config)?;
        let printer = Printer::new(self.json, targets.len() > 1);
        let client = Arc::new(HttpClient::new(self.insecure, CONNECT_TIMEOUT));
        let closed = targets.iter().map(|target| (target.name.as_str().into(), NO_ANSWER.into()));
        let progress = Progress { events: 0, closed: closed.collect(), opened: BTreeSet::new() };
        let follows = targets
            .into_iter()
            .map(|target| Follow::new(Arc::clone(&client), target, headers.clone()))
            .collect();
        block_on(self.listen(follows, printer, progress))
    }

    async fn listen(
        &self,
        follows: Vec<Follow>,
        printer: Printer,
        mut progress: Progress,
    ) -> Result<(), Error> {
        let (sender, mut heard) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        for follow in follows {
            tasks.spawn(follow.run(sender.clone()));
        }
        drop(sender);
        let is_over = tokio::time::sleep(self.time.unwrap_or(Duration::MAX));
        let interrupted = interrupted();
        tokio::pin!(is_over, interrupted);
        loop {
            tokio::select! {
                // Biased: events that were received before the timeout are printed.
                biased;
                () = &mut interrupted => return progress.end(),
                item = heard.recv() => match item {
                    Some(item) => {
                        progress.note(&item);
                        printer.print(item)?;
                        if self.count == Some(progress.events) { return Ok(()) }
                    }
                    None => {
                        last_words(tasks).await?;
                        return self.all_stopped(progress);
                    }
                },
                Some(ended) = tasks.join_next() => flatten(ended)?,
                () = &mut is_over => return self.time_is_over(progress),
            }
        }
    }

    /// The result when all servers have responded 204.
    fn all_stopped(&self, mut progress: Progress) -> Result<(), Error> {
        progress.end()?;
        match self.count {
            Some(count) => Err(SubError::Stopped { heard: progress.events, count }.into()),
            None => Ok(()),
        }
    }

    fn time_is_over(&self, mut progress: Progress) -> Result<(), Error> {
        match (self.count, self.time) {
            (Some(count), Some(time)) => {
                let (heard, never_open) = (progress.events, progress.never_open());
                Err(SubError::TooFew { heard, count, time, never_open }.into())
            }
            _ => progress.end(),
        }
    }
}

async fn last_words(mut tasks: JoinSet<Result<(), Error>>) -> Result<(), Error> {
    while let Some(ended) = tasks.join_next().await {
        flatten(ended)?;
    }
    Ok(())
}

fn flatten(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.expect("the tasks neither panic nor are aborted")
}

/// Waits for SIGINT or SIGTERM; forever if the handlers cannot be installed.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        },
        _ => std::future::pending().await,
    }
}

/// Parses `-H` arguments. The error does not repeat the argument, which may hold a secret.
fn headers(arguments: &[String]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for argument in arguments {
        let header = argument.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) =
            header.ok_or_else(|| Error::Usage("-H: invalid header; use \"Name: value\"".into()))?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::headers;

    #[test]
    fn headers_are_parsed_as_in_curl_and_never_repeated_in_errors() {
        let read = headers(&["Cookie: a=b: c".into(), "x:".into()]).expect("headers");
        assert_eq!(read["cookie"], "a=b: c");
        assert_eq!(read["x"], "");
        for wrong in ["", "secret", "a b: secret", "a: secret\nb: c", ": secret"] {
            let error = headers(&[wrong.into()]).expect_err(wrong).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
