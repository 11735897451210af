//! `ssegate sub`: follows streams and prints their events.
//!
//! A task for each stream reads it and sends its events over one bounded queue; the main task
//! prints them and decides when to stop.

mod follow;
mod print;
mod server_reason;
pub(super) mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use ssegate::http_client::HttpClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::follow::{Follower, StreamUpdate};
use self::print::Printer;
use super::config::ConfigFile;
use super::secret::{self, SecretOption};
use super::{CliError, block_on, duration, number, trust};

/// Why a stream has not opened, until there is another reason.
const NO_RESPONSE: &str = "no response";

/// 204 tells an `EventSource` to stop reconnecting (WHATWG HTML, section 9.2.1).
const STOPPED: &str = "the server responded 204 No Content, which tells clients not to reconnect";

const TOKEN: SecretOption = SecretOption { option: "--token", variable: "SSEGATE_TOKEN" };

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Follow event streams and print their events
///
/// Behaves as a browser's EventSource: when a stream ends, it reconnects after the server's retry
/// time, with Last-Event-ID. Stop it with Ctrl-C. Exits with 1 if a stream never opened, or if all
/// servers responded 204 before --count events were received.
#[derive(Args, Debug)]
pub(crate) struct SubscribeCommand {
    /// A URL, or a channel of the gateway that the configuration describes
    #[arg(required = true, value_name = "URL|CHANNEL")]
    targets: Vec<String>,
    /// Exit after N events
    #[arg(short = 'n', long, value_name = "N", value_parser = number::at_least_one)]
    count: Option<u64>,
    /// Exit after this time, for example 10s; with 1 if fewer than --count events were received
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    time: Option<Duration>,
    /// Print each event as a line of JSON with from, event, id and data
    #[arg(long)]
    json: bool,
    /// Send this token: Authorization: Bearer [env: SSEGATE_TOKEN]
    ///
    /// Other users of the machine see arguments in ps, and the shell keeps them: @FILE or the
    /// variable do not show it. It is not sent to where another origin redirects.
    #[arg(long, value_name = "TOKEN|@FILE")]
    token: Option<String>,
    /// Send this header, for example "X-Tenant: 7"
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    pub(in crate::cli) config: ConfigFile,
}

/// Why `ssegate sub` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubError {
    /// `--for` elapsed before `--count` events were received.
    #[error("received {received} of {count} events in {time:?}{}", suffix(.never_opened))]
    TooFew {
        /// The number of events received.
        received: u64,
        /// The value of `--count`.
        count: u64,
        /// The value of `--for`.
        time: Duration,
        /// The streams that never opened.
        never_opened: Vec<NeverOpened>,
    },
    /// All servers responded 204 before `--count` events were received.
    #[error("received {received} of {count} events, then the server responded 204 No Content")]
    Stopped {
        /// The number of events received.
        received: u64,
        /// The value of `--count`.
        count: u64,
    },
    /// Streams that never opened.
    #[error("{}", join(.0))]
    NeverOpened(Vec<NeverOpened>),
    /// A response that ends an `EventSource` for good: the URL and what is wrong.
    #[error("{0}: {1}")]
    NoStream(String, String),
}

impl From<SubError> for CliError {
    fn from(error: SubError) -> Self {
        Self::Command(error.into())
    }
}

/// A stream that never opened.
#[derive(Debug, thiserror::Error)]
#[error("{name} never opened: {reason}")]
pub(crate) struct NeverOpened {
    name: Arc<str>,
    reason: String,
}

fn join(streams: &[NeverOpened]) -> String {
    streams.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn suffix(streams: &[NeverOpened]) -> String {
    if streams.is_empty() { String::new() } else { format!("; {}", join(streams)) }
}

/// The number of events, and which streams have opened.
struct SubscribeProgress {
    events: u64,
    // Streams that have not opened yet, with the reason.
    closed: BTreeMap<Arc<str>, String>,
    // Streams that are open for the first time. One that ends at once with a reason moves back to
    // `closed`: its server had no stream.
    opened: BTreeSet<Arc<str>>,
}

impl SubscribeProgress {
    fn note(&mut self, update: &StreamUpdate) {
        match update {
            StreamUpdate::Event { .. } => self.events += 1,
            StreamUpdate::Open { from, .. } => {
                if self.closed.remove(from).is_some() {
                    self.opened.insert(Arc::clone(from));
                }
            }
            StreamUpdate::Lost { from, reason, is_unavailable, .. } => {
                let was_first = self.opened.remove(from);
                if was_first && *is_unavailable || self.closed.contains_key(from) {
                    self.closed.insert(Arc::clone(from), reason.clone());
                }
            }
            StreamUpdate::Stopped { from } => {
                if let Some(reason) = self.closed.get_mut(from) {
                    STOPPED.clone_into(reason);
                }
            }
            StreamUpdate::Waiting { .. } | StreamUpdate::TooLarge { .. } => {}
        }
    }

    fn never_opened(&mut self) -> Vec<NeverOpened> {
        let closed = std::mem::take(&mut self.closed).into_iter();
        closed.map(|(name, reason)| NeverOpened { name, reason }).collect()
    }

    /// The result at the end: an error if a stream never opened.
    fn end(&mut self) -> Result<(), CliError> {
        match self.never_opened() {
            never_opened if never_opened.is_empty() => Ok(()),
            never_opened => Err(SubError::NeverOpened(never_opened).into()),
        }
    }
}

impl SubscribeCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let mut headers = headers(&self.headers)?;
        self.add_token(&mut headers)?;
        let targets = target::resolve(&self.targets, &self.config)?;
        let printer = Printer::new(self.json, targets.len() > 1);
        let insecure = self.insecure;
        let client =
            Arc::new(HttpClient::new(move || trust::tls_client(insecure), CONNECT_TIMEOUT));
        let closed = targets.iter().map(|target| (target.name.as_str().into(), NO_RESPONSE.into()));
        let progress =
            SubscribeProgress { events: 0, closed: closed.collect(), opened: BTreeSet::new() };
        let followers = targets
            .into_iter()
            .map(|target| Follower::new(Arc::clone(&client), target, headers.clone()))
            .collect();
        block_on(self.print_events(followers, printer, progress))
    }

    /// Adds the token. The variable is for every command of a shell, so `-H` overrides it.
    fn add_token(&self, headers: &mut HeaderMap) -> Result<(), CliError> {
        let has_own = headers.contains_key(AUTHORIZATION);
        let Some(text) = TOKEN.text(self.token.as_deref())? else { return Ok(()) };
        match (has_own, &self.token) {
            (true, Some(_)) => {
                return Err(CliError::Usage(
                    "--token and -H Authorization exclude each other".into(),
                ));
            }
            (true, None) => return Ok(()),
            (false, _) => {}
        }
        let token = secret::token(&text, TOKEN)?;
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is visible ASCII");
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    async fn print_events(
        &self,
        followers: Vec<Follower>,
        printer: Printer,
        mut progress: SubscribeProgress,
    ) -> Result<(), CliError> {
        let (sender, mut updates) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        for follower in followers {
            tasks.spawn(follower.run(sender.clone()));
        }
        drop(sender);
        let timeout = tokio::time::sleep(self.time.unwrap_or(Duration::MAX));
        let interrupted = interrupted();
        tokio::pin!(timeout, interrupted);
        loop {
            tokio::select! {
                // Biased: events that were received before the timeout are printed.
                biased;
                () = &mut interrupted => return progress.end(),
                update = updates.recv() => match update {
                    Some(update) => {
                        progress.note(&update);
                        printer.print(update)?;
                        if self.count == Some(progress.events) { return Ok(()) }
                    }
                    None => {
                        join_all(tasks).await?;
                        return self.all_stopped(progress);
                    }
                },
                Some(ended) = tasks.join_next() => flatten(ended)?,
                () = &mut timeout => return self.timed_out(progress),
            }
        }
    }

    /// The result when all servers have responded 204.
    fn all_stopped(&self, mut progress: SubscribeProgress) -> Result<(), CliError> {
        progress.end()?;
        match self.count {
            Some(count) => Err(SubError::Stopped { received: progress.events, count }.into()),
            None => Ok(()),
        }
    }

    fn timed_out(&self, mut progress: SubscribeProgress) -> Result<(), CliError> {
        match (self.count, self.time) {
            (Some(count), Some(time)) => {
                let (received, never_opened) = (progress.events, progress.never_opened());
                Err(SubError::TooFew { received, count, time, never_opened }.into())
            }
            _ => progress.end(),
        }
    }
}

async fn join_all(mut tasks: JoinSet<Result<(), CliError>>) -> Result<(), CliError> {
    while let Some(ended) = tasks.join_next().await {
        flatten(ended)?;
    }
    Ok(())
}

fn flatten(ended: Result<Result<(), CliError>, tokio::task::JoinError>) -> Result<(), CliError> {
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
fn headers(arguments: &[String]) -> Result<HeaderMap, CliError> {
    let mut headers = HeaderMap::new();
    for argument in arguments {
        let header = argument.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) = header
            .ok_or_else(|| CliError::Usage("-H: invalid header; use \"Name: value\"".into()))?;
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
