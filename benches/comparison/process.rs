//! A process of a server, with the processes that it starts: its CPU, its memory, its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Outcome, machine};

/// A running program. It is ended when this is dropped. If this process dies in any other way, the kernel
/// sends the program a signal (`setpriv --pdeathsig`).
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A process as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    // User and system time, in clock ticks.
    ticks: u64,
    // Distinguishes a process from a later one with the same id.
    started: u64,
}

impl Process {
    /// Starts `program` on these processors. Its output goes to a file in `directory`.
    pub(crate) fn start(
        name: &str,
        cores: &[usize],
        directory: &Path,
        program: impl AsRef<Path>,
        arguments: &[String],
    ) -> Outcome<Self> {
        let log = directory.join(format!("{name}.log"));
        let out = fs::File::create(&log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "taskset", "-c", &machine::list(cores)])
            .arg(program.as_ref())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        Ok(Self { name: name.into(), child, log })
    }

    /// Fails with the end of its log when it has ended by itself.
    pub(crate) fn check(&mut self) -> Outcome {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended: {status}\n{}", self.name, self.log()).into()),
        }
    }

    /// The end of its output.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned()
    }

    /// User and system time so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let ticks: u64 = self.tree().iter().map(|stat| stat.ticks).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// The proportional share of memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.tree().iter().map(|stat| proportional_set(stat.pid)).sum()
    }

    /// The process and its descendants.
    fn tree(&self) -> Vec<Stat> {
        let all: Vec<Stat> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(stat)
            .collect();
        let root = self.child.id().cast_signed();
        let mut tree: Vec<Stat> = all.iter().copied().filter(|stat| stat.pid == root).collect();
        let mut looked = 0;
        while let Some(parent) = tree.get(looked).map(|stat| stat.pid) {
            tree.extend(all.iter().filter(|stat| stat.parent == parent));
            looked += 1;
        }
        tree
    }

    /// Sends SIGTERM, waits, then kills it and everything that it has started.
    fn end(&mut self) {
        let tree = self.tree();
        let has_ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        if !has_ended(&mut self.child) {
            // It may end by itself meanwhile: nothing else can go wrong, here and below.
            let _ended = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        let end = crate::clock::now() + 3 * crate::clock::SECOND;
        while !has_ended(&mut self.child) && crate::clock::now() < end {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        for known in tree {
            let is_same = stat(known.pid).is_some_and(|now| now.started == known.started);
            if let Some(pid) = Pid::from_raw(known.pid).filter(|_| is_same) {
                let _ended = kill_process(pid, Signal::KILL);
            }
        }
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// User and system time of this process so far, in seconds.
pub(crate) fn own_cpu() -> f64 {
    let own = stat(std::process::id().cast_signed());
    own.map_or(0, |stat| stat.ticks) as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// How long all processors of the machine were busy so far, in seconds. What a host took away (steal) counts
/// as busy.
pub(crate) fn machine_cpu() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq, steal (`man 5 proc_stat`); then guests,
    // which are in user already.
    let ticks: u64 = fields
        .take(8)
        .enumerate()
        .filter(|(place, _)| !matches!(place, 3 | 4))
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The memory that the kernel has for all TCP sockets of the machine, both ends of each, in bytes.
pub(crate) fn socket_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = tcp.split_whitespace().skip_while(|&word| word != "mem").nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// `man 5 proc_pid_stat`. The name may hold anything, so fields count from its end.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text[text.rfind(')')? + 2..].split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        ticks: field(14)? + field(15)?,
        started: field(22)?,
    })
}

fn proportional_set(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib * 1024)
}
