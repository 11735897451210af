//! The machine: its processors, its limits, what is installed, and when to stop.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Outcome, clock};

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The processors of the servers, and those of everything else: the load, the publisher, Redis.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    all: Vec<usize>,
    pub(crate) servers: Vec<usize>,
    pub(crate) others: Vec<usize>,
}

impl Cores {
    /// The first processor for the servers, all others for the rest.
    pub(crate) fn divide() -> Outcome<Self> {
        let allowed = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
        if all.len() < 2 {
            return Err("two processors are needed: one for the servers, one for the load".into());
        }
        let (servers, others) = all.split_at(1);
        let (servers, others) = (servers.to_vec(), others.to_vec());
        Ok(Self { all, servers, others })
    }

    /// Two processors for the servers; the rest has the others, or the same two where there are no others.
    pub(crate) fn with_two_for_servers(&self) -> Self {
        let (servers, others) = self.all.split_at(2);
        let others = if others.is_empty() { servers } else { others };
        Self { all: self.all.clone(), servers: servers.to_vec(), others: others.to_vec() }
    }

    /// Limits this process to the processors that the servers do not have.
    pub(crate) fn take_ours(&self) -> Outcome {
        let mut ours = CpuSet::new();
        for &core in &self.others {
            ours.set(core);
        }
        Ok(sched_setaffinity(None, &ours)?)
    }
}

/// As `taskset -c` wants it.
pub(crate) fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Raises the file limit of this process, and of those that it starts, to that of the system.
pub(crate) fn raise_file_limit() -> Outcome<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(1 << 20) as usize)
}

/// Ends the run in good order on SIGINT and SIGTERM: every wait checks for it.
pub(crate) fn watch_for_interrupt() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    drop(thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            IS_INTERRUPTED.store(true, Ordering::Relaxed);
            // Both stay caught: the servers are still to be ended.
            std::future::pending::<()>().await;
        });
    })?);
    Ok(())
}

/// An error once a signal has come.
pub(crate) fn check_interrupt() -> Outcome {
    if IS_INTERRUPTED.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}

/// Waits until `is_done`, for this many seconds at most; returns whether it is.
pub(crate) fn wait(seconds: f64, mut is_done: impl FnMut() -> bool) -> Outcome<bool> {
    let end = clock::now() + clock::seconds(seconds);
    while !is_done() {
        if clock::now() >= end {
            return Ok(false);
        }
        check_interrupt()?;
        thread::park_timeout(Duration::from_millis(10));
    }
    Ok(true)
}

/// The programs of these that are not installed, with the Debian packages that have them.
pub(crate) fn missing(
    programs: &[(&'static str, &'static str)],
) -> Vec<(&'static str, &'static str)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories: Vec<&str> = path.split(':').chain(["/usr/sbin", "/sbin"]).collect();
    let is_there = |program: &str| {
        program.starts_with('/') && fs::exists(program).unwrap_or(false)
            || directories
                .iter()
                .any(|directory| fs::exists(format!("{directory}/{program}")).unwrap_or(false))
    };
    programs.iter().copied().filter(|(program, _)| !is_there(program)).collect()
}

/// One line on processor, kernel and load.
pub(crate) fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} x {model}, Linux {}, load average before {load}", kernel.trim())
}
