//! ssegate beside other servers: one load, one machine, one run.
//!
//! `benches/compare` starts this; `benches/README.md` says how to read what comes out. In the order
//! of a measurement: [`figures`] says what is measured, [`servers`] starts what is measured,
//! [`load`] opens streams and publishes, [`stream`] checks what arrives, [`results`] keeps it,
//! [`report`] and [`chart`] show it.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and times of a benchmark, far below the widths"
)]

mod certificate;
mod chart;
mod clock;
mod connection;
mod figures;
mod http1;
mod http2;
mod load;
mod machine;
mod mode;
mod options;
mod payload;
mod process;
mod publisher;
mod report;
mod results;
mod servers;
mod stream;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use time::OffsetDateTime;

use self::certificate::Certificate;
use self::figures::{Run, say};
use self::machine::Cores;
use self::options::{Figure, Options};
use self::results::Results;
use self::servers::{Server, Site, bare, stock};

/// The gateway, built for release.
const BUILT: &str = env!("CARGO_BIN_EXE_ssegate");

/// The result of a step. An error is reported, and ends the run.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.get(1).map(String::as_str) {
        Some(bare::ROLE) => machine::raise_file_limit().and_then(|_| bare::run(&arguments[2..])),
        Some(stock::ROLE) => machine::raise_file_limit().and_then(|_| stock::run(&arguments[2..])),
        // `cargo test --benches` starts benches too, without wanting a measurement.
        _ if !arguments.iter().any(|argument| argument == "--bench") => Ok(()),
        _ => run(Options::parse().shortened()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("benches/compare: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Outcome {
    if let Some(csv) = &options.show {
        return show(&Results::read(csv)?, csv);
    }
    check_installed(&options)?;
    let directory = tempfile::Builder::new().prefix("ssegate-compare").tempdir()?;
    let cores = Cores::divide()?;
    let site = Site {
        directory: directory.path().into(),
        certificate: Certificate::make(directory.path())?,
        files: machine::raise_file_limit()?,
        ssegate: options.ssegate.clone().unwrap_or_else(|| BUILT.into()),
        cores,
    };
    machine::watch_for_interrupt()?;
    let machine = machine::description();
    site.cores.take_ours()?;
    let output = options.output.clone().unwrap_or_else(|| in_target(Path::new(BUILT)));
    fs::create_dir_all(&output)?;
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second) = now.to_hms();
    let csv = output.join(format!("{}-{hour:02}{minute:02}{second:02}.csv", now.date()));
    let command: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let origin = vec![
        format!("{} UTC, ssegate {}", now.date(), env!("CARGO_PKG_VERSION")),
        machine,
        format!("benches/compare {}", command.join(" ")),
    ];
    for line in &origin {
        say(line);
    }
    let results = Results::new(origin);
    let mut run = Run { options, site, results };
    let outcome = run.options.figures().into_iter().try_for_each(|figure| run.measure(figure));
    // If the run ends early, what was measured before is kept.
    if !run.results.is_empty() {
        run.results.write(&csv)?;
        show(&run.results, &csv)?;
    }
    outcome
}

fn show(results: &Results, csv: &Path) -> Outcome {
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report::text(results))?;
    let charts = chart::draw(results, csv)?;
    writeln!(out, "\nresults: {}", csv.display())?;
    for chart in charts {
        writeln!(out, "chart:   {}", chart.display())?;
    }
    Ok(())
}

/// Names everything that is missing at once, with the command that installs it.
fn check_installed(options: &Options) -> Outcome {
    let asked = options.figures();
    let servers = if !options.servers.is_empty() {
        options.servers.clone()
    } else if asked.contains(&Figure::Main) {
        use clap::ValueEnum as _;
        Server::value_variants().to_vec()
    } else {
        vec![Server::Ssegate, Server::NchanMemory]
    };
    let mut programs = vec![("setpriv", "util-linux"), ("taskset", "util-linux")];
    programs.extend(servers.iter().flat_map(|server| server.programs()));
    let missing = machine::missing(&programs);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    Err(format!(
        "missing: {}\nOn Debian:  apt-get install --no-install-recommends {}\n\
         or leave servers out:  --servers bare,ssegate",
        names.join(", "),
        packages.join(" ")
    )
    .into())
}

/// `target/compare`, beside the profile that the gateway was built in.
fn in_target(ssegate: &Path) -> PathBuf {
    ssegate.ancestors().nth(2).unwrap_or_else(|| Path::new("target")).join("compare")
}
