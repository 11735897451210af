//! One server in one mode: started, connected to, measured, ended.

use std::fmt;

use super::meter::Cpu;
use crate::Outcome;
use crate::load::{Load, Pace};
use crate::machine;
use crate::mode::Mode;
use crate::options::Options;
use crate::process::socket_memory;
use crate::results::Key;
use crate::servers::{Running, Server, Settings, Site};

/// Time for a server to come to rest.
const REST: f64 = 0.3;
/// Bytes on their way to one subscriber at most: below what servers let wait.
const MAX_IN_FLIGHT_BYTES: usize = 512 << 10;

/// What to measure, with which server.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) figure: &'static str,
    pub(crate) variant: String,
    pub(crate) server: Server,
    pub(crate) mode: Mode,
    pub(crate) subscribers: usize,
    pub(crate) channels: usize,
    pub(crate) payload: usize,
    /// The pace of publishing for the CPU and the latency; `None` leaves them out.
    pub(crate) pace: Option<Pace>,
    /// Whether the throughput is measured.
    pub(crate) saturates: bool,
    pub(crate) settings: Settings,
}

/// Metrics with their values.
pub(crate) type Figures = Vec<(&'static str, f64)>;

impl Cell {
    pub(crate) fn key(&self, metric: &str) -> Key {
        Key {
            figure: self.figure.into(),
            variant: self.variant.clone(),
            server: self.server.to_string(),
            mode: self.mode.to_string(),
            subscribers: self.subscribers,
            payload: self.payload,
            metric: metric.into(),
        }
    }

    pub(crate) fn measure(&self, site: &Site, options: &Options) -> Outcome<Figures> {
        let running = self.server.start(site, &self.settings)?;
        let result = self.measure_running(&running, site, options);
        result.map_err(|error| format!("{error}\n{}", running.logs()).into())
    }

    fn measure_running(
        &self,
        running: &Running,
        site: &Site,
        options: &Options,
    ) -> Outcome<Figures> {
        let mut figures = Figures::new();
        warm_code(running, site, self.mode)?;
        let mut load = Load::new(running.publisher()?, self.payload)?;
        self.open(running, site, &mut load, &mut figures)?;
        if self.pace.is_none() && !self.saturates {
            return Ok(figures);
        }
        load.warm_up(REST)?;
        if let Some(pace) = self.pace {
            steady(running, &mut load, pace, options.seconds, &mut figures)?;
        }
        if self.saturates {
            let seconds = (options.seconds / 2.0).max(1.0);
            self.saturate(running, &mut load, options.in_flight, seconds, &mut figures)?;
        }
        Ok(figures)
    }

    /// Opens all streams: measures what that costs, and the memory that they hold while they are quiet.
    fn open(
        &self,
        running: &Running,
        site: &Site,
        load: &mut Load,
        figures: &mut Figures,
    ) -> Outcome {
        let streams = self.subscribers as f64;
        let (cpu, memory, sockets) = (running.cpu(), running.memory(), socket_memory());
        load.open(&running.place(site, self.mode)?, self.subscribers, 0, self.channels)?;
        load.run(REST, Pace::Silence)?;
        let opening = running.cpu() - cpu;
        // A clock tick is 10 ms: with few connections, the result would mean nothing.
        if load.connections() >= 100 {
            figures.push(("open_cpu_us", opening * 1e6 / load.connections() as f64));
        }
        figures.push(("memory_bytes", grown(memory, running.memory()) / streams));
        figures.push(("socket_bytes", grown(sockets, socket_memory()) / streams));
        Ok(())
    }

    /// Publishes as fast as the slowest stream keeps up.
    fn saturate(
        &self,
        running: &Running,
        load: &mut Load,
        in_flight: usize,
        seconds: f64,
        figures: &mut Figures,
    ) -> Outcome {
        let in_flight = in_flight.min(MAX_IN_FLIGHT_BYTES / self.payload).max(1);
        // Up to speed first.
        load.run(0.3, Pace::InFlight(in_flight))?;
        let cpu = Cpu::read(running);
        let window = load.run(seconds, Pace::InFlight(in_flight))?;
        let cpu = cpu.since(running);
        let delivered = window.delivered as f64;
        let per_second = delivered / window.seconds;
        figures.push(("saturated_per_s", per_second));
        figures.push(("saturated_bytes_per_s", per_second * self.payload as f64));
        figures.push(("saturated_cpu_us", cpu.server * 1e6 / delivered));
        figures.push(("saturated_share", cpu.server / window.seconds));
        figures.push(("saturated_load_share", cpu.load / window.seconds));
        figures.push(("saturated_others_share", cpu.others / window.seconds));
        Ok(())
    }
}

/// Publishes in its pace: CPU per delivery and latency.
fn steady(
    running: &Running,
    load: &mut Load,
    pace: Pace,
    seconds: f64,
    figures: &mut Figures,
) -> Outcome {
    load.run(REST, pace)?;
    load.tally.latencies = Some(Vec::new());
    let cpu = Cpu::read(running);
    let window = load.run(seconds, pace)?;
    let cpu = cpu.since(running);
    let per_delivery = |seconds: f64| seconds * 1e6 / window.delivered as f64;
    figures.push(("cpu_us", per_delivery(cpu.server)));
    figures.push(("load_cpu_us", per_delivery(cpu.load)));
    figures.push(("others_share", cpu.others / window.seconds));
    let latencies = load.tally.latencies.take().unwrap_or_default();
    figures.extend(percentiles(latencies));
    Ok(())
}

/// The median and the 99th percentile of latencies in microseconds.
pub(crate) fn percentiles(mut latencies: Vec<u32>) -> Figures {
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (latencies.len() as f64 * share) as usize;
        latencies.get(place).map_or(f64::NAN, |&micros| f64::from(micros) / 1000.0)
    };
    vec![("latency_p50_ms", at(0.5)), ("latency_p99_ms", at(0.99))]
}

/// Opens and closes a stream, so that what a server maps and allocates only once is not counted for the
/// streams. Tried until it works, for a while: a server may listen before it can serve.
pub(crate) fn warm_code(running: &Running, site: &Site, mode: Mode) -> Outcome {
    let mut result = Ok(());
    machine::wait(10.0, || {
        result = open_one(running, site, mode);
        result.is_ok()
    })?;
    result?;
    machine::wait(REST, || false).map(drop)
}

fn open_one(running: &Running, site: &Site, mode: Mode) -> Outcome {
    let mut load = Load::new(running.publisher()?, 100)?;
    load.open(&running.place(site, mode)?, 1, 0, 1)?;
    load.warm_up(0.1)
}

fn grown(before: u64, after: u64) -> f64 {
    after as f64 - before as f64
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, mode, subscribers, payload, variant, .. } = self;
        write!(f, "{server} {mode}, {subscribers} subscribers, {payload} bytes")?;
        if variant.is_empty() { Ok(()) } else { write!(f, ", {variant}") }
    }
}
