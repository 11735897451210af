//! `ssegate doctor`: tries what the configuration promises, and prints for each thing what to do.
//!
//! One file for each kind of thing. Nothing is changed: Redis is read and subscribed to as by `check --connect`, ports
//! are bound for a moment and never listened on, and backends get `HEAD /`.

mod arrival;
mod certificates;
mod clock;
mod exchange;
mod finding;
mod ports;
mod redis;
mod stream;
mod system;
mod through;
mod upstreams;

use std::time::{Duration, SystemTime};

use clap::Args;
use http::{HeaderMap, Uri};
use ssegate::config::Settings;

use self::finding::{Finding, FindingLevel};
use self::system::SystemLimits;
use super::config::ConfigFile;
use super::count::count;
use super::sub::request_headers;
use super::{CliError, block_on, duration, output};

/// Try what the configuration promises, and say what to do
///
/// Checks the file, then tries what it names: Redis and the rights that the routes need, each upstream and its
/// certificate, the certificates of the listeners, the ports, the limits of the system, and the clock. One line for each
/// thing: ok, warning or error, what was found, and the mend. Exits with 1 if something is an error.
///
/// It changes nothing: a backend gets HEAD /, ports are tried without listening, and Redis is asked as by check --connect.
#[derive(Args, Debug)]
pub(crate) struct DoctorCommand {
    /// Also request this path of a backend with GET, and measure whether its event stream comes unbuffered
    #[arg(long, value_name = "PATH")]
    stream: Option<String>,
    /// Also open a stream at this public address, and measure whether what stands in front of the gateway passes it on at
    /// once
    #[arg(long, value_name = "URL")]
    through: Option<Uri>,
    /// Send this header with --stream and --through, for example "Cookie: session=…"
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// How long --stream watches
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, default_value = "10s")]
    time: Duration,
    /// With --through: accept any certificate
    #[arg(long)]
    insecure: bool,
    /// Print each finding as a line of JSON with level, about, found and mend
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

/// Something must be mended.
#[derive(Debug, thiserror::Error)]
#[error("{} must be mended", count(*.0, "thing"))]
struct MustBeMended(usize);

impl From<MustBeMended> for CliError {
    fn from(error: MustBeMended) -> Self {
        Self::Command(error.into())
    }
}

impl DoctorCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let headers = request_headers(&self.headers)?;
        if let Some(path) = self.stream.as_deref().filter(|path| !path.starts_with('/')) {
            return Err(CliError::Usage(format!(
                "--stream: {path:?} is not a path; it begins with /"
            )));
        }
        if let Some(url) = &self.through
            && !(matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some())
        {
            return Err(CliError::Usage(format!(
                "--through: {url} is not a URL; use https://HOST/PATH"
            )));
        }
        let (settings, _) = self.config.load()?;
        let mut report = DoctorReport { json: self.json, errors: 0, warnings: 0 };
        report.add(&[Finding::ok(self.config.path().display().to_string(), "no mistake in it")])?;
        self.examine_machine(&settings, &mut report)?;
        block_on(self.examine_servers(&settings, &headers, &mut report))?;
        report.end()
    }

    fn examine_machine(
        &self,
        settings: &Settings,
        report: &mut DoctorReport,
    ) -> Result<(), CliError> {
        let (ports, gateway) = ports::findings(settings);
        report.add(&ports)?;
        report.add(&certificates::findings(settings, SystemTime::now()))?;
        report.add(&SystemLimits::read(gateway).findings(settings))
    }

    async fn examine_servers(
        &self,
        settings: &Settings,
        headers: &HeaderMap,
        report: &mut DoctorReport,
    ) -> Result<(), CliError> {
        report.add(&redis::findings(settings).await)?;
        let (found, mut clocks) = upstreams::findings(settings).await;
        report.add(&found)?;
        if let Some(path) = &self.stream {
            report.add(&stream::findings(settings, (path, headers), self.time).await)?;
        }
        if let Some(url) = &self.through {
            let (found, clock) = through::findings(settings, (url, headers), self.insecure).await;
            report.add(&found)?;
            clocks.extend(clock);
        }
        report.add(&[clock::finding(&clocks)])
    }
}

/// Prints findings as they come, and counts them.
struct DoctorReport {
    json: bool,
    errors: usize,
    warnings: usize,
}

impl DoctorReport {
    fn add(&mut self, findings: &[Finding]) -> Result<(), CliError> {
        for finding in findings {
            match finding.level {
                FindingLevel::Ok => {}
                FindingLevel::Warning => self.warnings += 1,
                FindingLevel::Error => self.errors += 1,
            }
            finding.print(self.json)?;
        }
        Ok(())
    }

    fn end(self) -> Result<(), CliError> {
        if self.warnings > 0 {
            output::to_stderr(format_args!("ssegate: {}", count(self.warnings, "warning")));
        }
        if self.errors > 0 { Err(MustBeMended(self.errors).into()) } else { Ok(()) }
    }
}
