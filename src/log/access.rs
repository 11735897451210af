//! The access log: which requests are logged, and their lines.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use ssegate_auth::Identity;
use tokio::time::Instant;

use super::entry::{Asked, LineSubject, Outcome, RenderedRequest};
use super::line_budget::LineBudget;
use super::pseudonym::Pseudonyms;
use super::settings::{AccessMode, IdentityForm, LogSettings};
use super::{LineForm, LogOutput, SecretParameters, WriteLine, target};
use crate::metrics::Metrics;

/// How often the lines that were left out are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The value of [`AccessShared::mode`] for errors: no share.
const ERRORS: u32 = u32::MAX;

/// The access log. A cheap handle that can be sent to any thread.
#[derive(Clone)]
pub struct AccessLog(Arc<AccessShared>);

struct AccessShared {
    // A share, 0 for none, or `ERRORS`.
    mode: AtomicU32,
    identity: AtomicU8,
    budget: LineBudget,
    form: LineForm,
    write: WriteLine,
    pseudonyms: Pseudonyms,
    started: Instant,
    metrics: Metrics,
}

impl AccessLog {
    /// The access log with these settings.
    pub fn new(settings: &LogSettings, output: &LogOutput, metrics: Metrics) -> Self {
        let log = Self(Arc::new(AccessShared {
            mode: AtomicU32::new(0),
            identity: AtomicU8::new(0),
            budget: LineBudget::new(settings.access_rate),
            form: output.form,
            write: Arc::clone(&output.write),
            pseudonyms: Pseudonyms::draw(),
            started: Instant::now(),
            metrics,
        }));
        log.change(settings);
        log
    }

    /// Applies new settings to the lines from now on.
    pub fn change(&self, settings: &LogSettings) {
        self.set_mode(settings.access);
        self.0.identity.store(settings.identity as u8, Ordering::Relaxed);
        self.0.budget.change(settings.access_rate);
    }

    /// Changes which requests are logged, from now on.
    pub fn set_mode(&self, mode: AccessMode) {
        let mode = match mode {
            AccessMode::Off => 0,
            AccessMode::Errors => ERRORS,
            AccessMode::Share(share) => share,
        };
        self.0.mode.store(mode, Ordering::Relaxed);
    }

    /// Which requests are logged.
    pub fn mode(&self) -> AccessMode {
        match self.0.mode.load(Ordering::Relaxed) {
            0 => AccessMode::Off,
            ERRORS => AccessMode::Errors,
            share => AccessMode::Share(share),
        }
    }

    /// Whether a request that begins now may have a line.
    pub fn begins(&self) -> bool {
        match self.mode() {
            AccessMode::Off => false,
            AccessMode::Errors | AccessMode::ALL => true,
            AccessMode::Share(share) => fastrand::u32(..AccessMode::WHOLE) < share,
        }
    }

    /// Whether a request that has begun has a line of this subject.
    pub fn wants(&self, subject: LineSubject, is_error: bool) -> bool {
        match self.mode() {
            AccessMode::Off => false,
            AccessMode::Errors => is_error,
            // The combined form has no line for the opening of a stream, so none is rendered.
            AccessMode::Share(_) => {
                subject != LineSubject::StreamOpened || self.0.form == LineForm::Json
            }
        }
    }

    /// The identity as the access log may show it; `None`: it shows none, or the credential has no name.
    pub fn identity(&self, identity: &Identity) -> Option<String> {
        let form = self.0.identity.load(Ordering::Relaxed);
        if form == IdentityForm::Plain as u8 {
            return identity.id.clone();
        }
        let account = identity.account().filter(|_| form == IdentityForm::Hash as u8)?;
        Some(self.0.pseudonyms.of(&account))
    }

    /// Renders what is known of a request.
    pub fn render(&self, asked: &Asked<'_>) -> RenderedRequest {
        RenderedRequest::new(self.0.form, asked)
    }

    /// Writes a line, within the bound of this second.
    pub fn write(&self, request: &RenderedRequest, subject: LineSubject, outcome: &Outcome<'_>) {
        if self.takes_line() {
            let line = request.line(self.0.form, subject, outcome, SystemTime::now());
            (self.0.write)(line.as_bytes());
        }
    }

    /// Writes the line of a request of which nothing but its client is known.
    pub fn write_unreadable(&self, client: IpAddr, status: u16, error: &'static str) {
        if !self.begins() || !self.wants(LineSubject::Request, true) {
            return;
        }
        let asked = Asked {
            client,
            identity: None,
            method: "",
            host: b"",
            target: "",
            version: http::Version::HTTP_11,
            route: "",
            referer: b"",
            user_agent: b"",
            traceparent: None,
        };
        let outcome = Outcome { status, error: Some(error), ..Outcome::default() };
        self.write(&self.render(&asked), LineSubject::Request, &outcome);
    }

    fn takes_line(&self) -> bool {
        let second = self.0.started.elapsed().as_secs();
        // It wraps around after 136 years.
        #[expect(clippy::cast_possible_truncation, reason = "only equal seconds count")]
        let is_taken = self.0.budget.take(second as u32);
        match is_taken {
            true => self.0.metrics.access_line_written(),
            false => self.0.metrics.access_line_left_out(),
        }
        is_taken
    }

    /// Logs, once a minute, how many lines were left out. Runs as long as the gateway.
    pub async fn report(self) {
        let mut interval =
            tokio::time::interval_at(Instant::now() + REPORT_INTERVAL, REPORT_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let lines = self.0.budget.take_left_out();
            if lines > 0 {
                tracing::warn!(
                    lines,
                    "lines of the access log were left out: there were more than log.access_rate in a second; \
                     raise it, or log a share (access: 1%)"
                );
            }
        }
    }
}

/// Path and query of a request without the secrets in them.
pub fn masked_target(uri: &http::Uri, parameters: &SecretParameters) -> Box<str> {
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    parameters.mask(target).into()
}

/// The address of a page without its query and its user.
pub fn masked_referer(referer: &[u8]) -> Vec<u8> {
    target::page(referer)
}

/// A host without a user.
pub fn masked_host(host: &[u8]) -> Vec<u8> {
    target::without_user(host)
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("mode", &self.mode()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ssegate_auth::{AuthMethod, Identity};

    use super::AccessLog;
    use crate::log::{AccessMode, IdentityForm, LogOutput, LogSettings};
    use crate::metrics::Metrics;

    fn log(settings: &LogSettings) -> (AccessLog, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let write = move |line: &[u8]| {
            written.lock().expect("no panic").push(String::from_utf8(line.to_vec()).expect("text"));
        };
        let output = LogOutput { write: Arc::new(write), ..LogOutput::none() };
        (AccessLog::new(settings, &output, Metrics::new().expect("metrics")), lines)
    }

    #[test]
    fn a_share_of_the_requests_is_logged() {
        for (mode, least, most) in [
            (AccessMode::Off, 0, 0),
            (AccessMode::Share(100_000), 800, 1200),
            (AccessMode::ALL, 10_000, 10_000),
            (AccessMode::Errors, 10_000, 10_000),
        ] {
            let (log, _lines) = log(&LogSettings { access: mode, ..LogSettings::default() });
            let begun = (0..10_000).filter(|_| log.begins()).count();
            assert!((least..=most).contains(&begun), "{mode}: {begun}");
            assert_eq!(log.mode(), mode);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_lines_than_the_bound_are_left_out_and_counted() {
        let settings =
            LogSettings { access: AccessMode::ALL, access_rate: 3, ..LogSettings::default() };
        let (log, lines) = log(&settings);
        let refuse =
            || log.write_unreadable("192.0.2.7".parse().expect("an address"), 400, "malformed");
        (0..5).for_each(|_| refuse());
        assert_eq!(lines.lock().expect("no panic").len(), 3);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        refuse();
        assert_eq!(lines.lock().expect("no panic").len(), 4);
        let metrics = log.0.metrics.render().expect("text");
        assert!(metrics.contains("ssegate_access_log_lines_total 4\n"), "{metrics}");
        assert!(metrics.contains("ssegate_access_log_lines_left_out_total 2\n"), "{metrics}");
        assert_eq!(log.0.budget.take_left_out(), 2);
    }

    #[test]
    fn a_person_is_named_as_the_operator_wants() {
        let who = |method| Identity { method: Some(method), ..Identity::named("alice") };
        let (log, _lines) = log(&LogSettings::default());
        let hash = log.identity(&who(AuthMethod::Jwt)).expect("a hash");
        assert!(!hash.contains("alice"), "{hash}");
        assert_eq!(log.identity(&who(AuthMethod::Jwt)), Some(hash.clone()));
        assert_ne!(log.identity(&who(AuthMethod::Token)), Some(hash), "another person");
        assert_eq!(log.identity(&Identity::default()), None);
        log.change(&LogSettings { identity: IdentityForm::Plain, ..LogSettings::default() });
        assert_eq!(log.identity(&who(AuthMethod::Jwt)).as_deref(), Some("alice"));
        log.change(&LogSettings { identity: IdentityForm::Off, ..LogSettings::default() });
        assert_eq!(log.identity(&who(AuthMethod::Jwt)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_reported_once_a_minute() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let subscriber = tracing_subscriber::fmt().with_writer(Mutex::new(writer)).with_ansi(false);
        let reporting = tracing::subscriber::set_default(subscriber.finish());
        let settings =
            LogSettings { access: AccessMode::ALL, access_rate: 1, ..LogSettings::default() };
        let (log, _lines) = log(&settings);
        let report = tokio::spawn(log.clone().report());
        for second in 0..150 {
            let lines = if second < 100 { 3 } else { 1 };
            for _ in 0..lines {
                log.write_unreadable("192.0.2.7".parse().expect("an address"), 400, "malformed");
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(200)).await;
        report.abort();
        drop(reporting);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).expect("text");
        let counts: Vec<u32> = text
            .lines()
            .map(|line| {
                let (_, count) = line.rsplit_once("lines=").expect(line);
                count.parse().expect("a number")
            })
            .collect();
        // One for each minute in which lines were left out.
        assert_eq!((counts.len(), counts.iter().sum::<u32>()), (2, 200), "{text}");
    }
}
