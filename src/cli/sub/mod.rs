//! `ssegate sub`: follows streams and prints their events.
//!
//! A task for each stream reads it and sends its events over one bounded queue; the main task
//! prints them and decides when to stop.

mod error;
mod follow;
mod print;
mod progress;
mod server_reason;
mod since;
mod summary;
pub(super) mod target;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use ssegate::http_client::HttpClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use self::error::SubError;
use self::follow::Follower;
use self::print::{ColorChoice, Printer};
use self::progress::SubscribeProgress;
use self::since::Since;
use self::summary::SubscribeSummary;
use super::config::ConfigFile;
use super::secret::{self, SecretOption};
use super::{CliError, block_on, duration, number, trust};

const TOKEN: SecretOption = SecretOption { option: "--token", variable: "SSEGATE_TOKEN" };

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Follow event streams and print their events
///
/// Behaves as a browser's EventSource: when a stream ends, it reconnects after the server's retry
/// time, with Last-Event-ID. Stop it with Ctrl-C. Exits with 1 if a stream never opened, or if all
/// servers responded 204 before --count events were received. At its end it says on standard error what there was:
/// events, bytes, gaps, reconnects.
#[derive(Args, Debug)]
pub(crate) struct SubscribeCommand {
    /// A URL, or a channel of the gateway that the configuration describes; or a pattern such as 'orders:*', where a
    /// route has patterns: true
    #[arg(required = true, value_name = "URL|CHANNEL")]
    targets: Vec<String>,
    /// Exit after N events
    #[arg(short = 'n', long, value_name = "N", value_parser = number::at_least_one)]
    count: Option<u64>,
    /// Exit after this time, for example 10s; with 1 if fewer than --count events were received
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    time: Option<Duration>,
    /// Begin after the event with this id; or, on a route with source: stream, at a time (2026-05-01T12:00:00Z, or
    /// 10m ago: 10m), or with all that Redis has: beginning
    #[arg(long, value_name = "ID|TIME|beginning", value_parser = Since::parse)]
    since: Option<Since>,
    /// Print each event as a line of JSON with from, event, id and data, and at the end the summary on standard error
    /// as one
    #[arg(long)]
    json: bool,
    /// Colours: auto are in a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    color: ColorChoice,
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

impl SubscribeCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let mut headers = request_headers(&self.headers)?;
        self.add_token(&mut headers)?;
        let targets = target::resolve(&self.targets, &self.config)?;
        let since = match &self.since {
            Some(since) => since.last_event_id(&targets)?,
            None => String::new(),
        };
        let printer = Printer::new(self.json, targets.len() > 1, self.color);
        let insecure = self.insecure;
        let client =
            Arc::new(HttpClient::new(move || trust::tls_client(insecure), CONNECT_TIMEOUT));
        let progress =
            SubscribeProgress::new(targets.iter().map(|target| target.name.as_str().into()));
        let followers = targets
            .into_iter()
            .map(|target| Follower::new(Arc::clone(&client), target, (headers.clone(), &since)))
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
        let mut summary = SubscribeSummary::default();
        let timeout = tokio::time::sleep(self.time.unwrap_or(Duration::MAX));
        let interrupted = interrupted();
        tokio::pin!(timeout, interrupted);
        let ended = loop {
            tokio::select! {
                // Biased: events that were received before the timeout are printed.
                biased;
                () = &mut interrupted => break progress.end(),
                update = updates.recv() => match update {
                    Some(update) => {
                        progress.note(&update);
                        summary.note(&update, Instant::now());
                        // Who has closed stdout wants to see nothing more.
                        printer.print(update)?;
                        if self.count == Some(progress.events) { break Ok(()) }
                    }
                    None => {
                        let ended = join_all(tasks).await;
                        break ended.and_then(|()| self.all_stopped(progress));
                    }
                },
                Some(ended) = tasks.join_next() => if let Err(error) = flatten(ended) {
                    break Err(error);
                },
                () = &mut timeout => break self.timed_out(progress),
            }
        };
        printer.summary(&summary, Instant::now());
        ended
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
pub(super) fn request_headers(arguments: &[String]) -> Result<HeaderMap, CliError> {
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
    use super::request_headers;

    #[test]
    fn headers_are_parsed_as_in_curl_and_never_repeated_in_errors() {
        let read = request_headers(&["Cookie: a=b: c".into(), "x:".into()]).expect("headers");
        assert_eq!(read["cookie"], "a=b: c");
        assert_eq!(read["x"], "");
        for wrong in ["", "secret", "a b: secret", "a: secret\nb: c", ": secret"] {
            let error = request_headers(&[wrong.into()]).expect_err(wrong).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
