//! The `process_*` metrics that all Prometheus client libraries have, from `/proc/self`.
//!
//! Not from the crate `procfs`, which `prometheus` can use: it takes longer to compile than the HTTP/2 of the
//! gateway, and brings a second `rustix`. Without `/proc` there are no such metrics.

use std::fs;
use std::path::Path;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// The metrics of this process.
pub(super) struct ProcessMetrics {
    cpu: Counter,
    gauges: [(Gauge, ReadFigure); 6],
}

/// Returns the value of one metric.
type ReadFigure = fn(&ProcessFigures) -> Option<f64>;

/// The figures of `/proc` at one moment; `None`: unknown.
#[derive(Debug, Default, PartialEq)]
struct ProcessFigures {
    /// User and system time, in seconds.
    cpu: Option<f64>,
    threads: Option<f64>,
    /// In Unix time.
    start: Option<f64>,
    virtual_bytes: Option<f64>,
    resident_bytes: Option<f64>,
    open_files: Option<f64>,
    max_files: Option<f64>,
}

impl ProcessMetrics {
    /// Metrics without values yet.
    ///
    /// # Errors
    /// Two have the same name: a bug.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let gauge = |name, help, read: ReadFigure| {
            Ok::<_, prometheus::Error>((Gauge::with_opts(Opts::new(name, help))?, read))
        };
        let help = "Total user and system CPU time spent in seconds.";
        Ok(Self {
            cpu: Counter::with_opts(Opts::new("process_cpu_seconds_total", help))?,
            gauges: [
                gauge("process_open_fds", "Number of open file descriptors.", |of| of.open_files)?,
                gauge("process_max_fds", "Maximum number of open file descriptors.", |of| {
                    of.max_files
                })?,
                gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", |of| {
                    of.virtual_bytes
                })?,
                gauge("process_resident_memory_bytes", "Resident memory size in bytes.", |of| {
                    of.resident_bytes
                })?,
                gauge(
                    "process_start_time_seconds",
                    "Start time of the process since unix epoch in seconds.",
                    |of| of.start,
                )?,
                gauge("process_threads", "Number of OS threads in the process.", |of| of.threads)?,
            ],
        })
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges.iter().flat_map(|(gauge, _)| gauge.desc());
        self.cpu.desc().into_iter().chain(gauges).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let figures = ProcessFigures::read(Path::new("/proc"));
        let mut families = Vec::with_capacity(1 + self.gauges.len());
        if let Some(cpu) = figures.cpu {
            // Another thread may collect at the same time, and may have read later: a counter does not go back.
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            families.extend(self.cpu.collect());
        }
        for (gauge, read) in &self.gauges {
            if let Some(value) = read(&figures) {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

impl ProcessFigures {
    fn read(proc: &Path) -> Self {
        let stat = fs::read_to_string(proc.join("self/stat")).unwrap_or_default();
        let system = fs::read_to_string(proc.join("stat")).unwrap_or_default();
        let descriptors = fs::read_dir(proc.join("self/fd")).ok();
        Self {
            // Without the descriptor with which the directory is read.
            open_files: descriptors.map(|files| float(files.count().saturating_sub(1) as u64)),
            max_files: getrlimit(Resource::Nofile).current.map(float),
            ..Self::parse(&stat, &system)
        }
    }

    /// Parses `/proc/self/stat` (proc_pid_stat(5)), and the time of the boot out of `/proc/stat`.
    fn parse(stat: &str, system: &str) -> Self {
        // The name of the program, in parentheses, may have spaces and parentheses. The field after it is the third.
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok().map(float);
        let seconds = |ticks: f64| ticks / float(clock_ticks_per_second());
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "));
        let boot = boot.and_then(|seconds| seconds.trim().parse::<u64>().ok()).map(float);
        Self {
            cpu: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            threads: field(20),
            start: field(22).zip(boot).map(|(ticks, boot)| boot + seconds(ticks)),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * float(page_size() as u64)),
            ..Self::default()
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float; bytes are exact up to 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{SystemTime, UNIX_EPOCH};

    use rustix::param::{clock_ticks_per_second, page_size};

    use super::{ProcessFigures, float};

    #[test]
    fn what_proc_says_is_read_by_its_position_behind_the_name() {
        let stat = "7 (a name) (x) S 1 2 3 4 5 6 7 8 9 10 300 100 0 0 20 0 5 0 1000 4096 3 0\n";
        let figures = ProcessFigures::parse(stat, "cpu 1 2\nbtime 1800000000\n");
        let ticks = float(clock_ticks_per_second());
        let expected = ProcessFigures {
            cpu: Some(400.0 / ticks),
            threads: Some(5.0),
            start: Some(1_800_000_000.0 + 1000.0 / ticks),
            virtual_bytes: Some(4096.0),
            resident_bytes: Some(3.0 * float(page_size() as u64)),
            ..ProcessFigures::default()
        };
        assert_eq!(figures, expected);
        assert_eq!(ProcessFigures::parse("", ""), ProcessFigures::default());
    }

    #[test]
    fn this_process_is_as_it_is() {
        let figures = ProcessFigures::read(Path::new("/proc"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_secs_f64();
        let age = now - figures.start.expect("it has begun");
        assert!((-1.0..86_400.0).contains(&age), "{age}");
        let bytes = figures.resident_bytes.expect("memory");
        assert!(bytes > 1e6 && bytes < figures.virtual_bytes.expect("memory"), "{bytes}");
        assert!(figures.open_files.expect("open files") >= 3.0, "{figures:?}");
        assert!(figures.max_files >= figures.open_files && figures.threads >= Some(1.0));
        let nothing = ProcessFigures::read(Path::new("/nowhere"));
        assert_eq!((nothing.start, nothing.open_files), (None, None));
    }
}
