//! What the command line says.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::mode::Mode;
use crate::servers::Server;

/// ssegate beside other servers, on this machine, in one run.
#[derive(Clone, Debug, Parser)]
#[command(name = "benches/compare", version)]
pub(crate) struct Options {
    /// What to measure
    #[arg(default_value = "main")]
    pub(crate) figures: Vec<Figure>,

    /// About two minutes: `main` with short rounds
    #[arg(long)]
    pub(crate) quick: bool,

    /// Servers to compare; those that the figure is about, if none is given
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<Server>,

    /// Protocols: h1, h1+tls, h2+tls (a connection for each stream), h2+tls/100 (streams on one)
    #[arg(long, value_delimiter = ',')]
    pub(crate) modes: Vec<Mode>,

    /// Streams
    #[arg(long, default_value_t = 2000)]
    pub(crate) subscribers: usize,

    /// Messages a second, where they are not published as fast as possible
    #[arg(long, default_value_t = 20.0)]
    pub(crate) rate: f64,

    /// Bytes of a message
    #[arg(long, default_value_t = 100)]
    pub(crate) payload: usize,

    /// Length of a measurement
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,

    /// Rounds, of which the median is taken; the servers take turns in each
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,

    /// Messages on their way at once, where they are published as fast as possible
    #[arg(long, default_value_t = 8)]
    pub(crate) in_flight: usize,

    /// Measure nothing: show the results in this file, and draw its charts beside it
    #[arg(long, value_name = "CSV")]
    pub(crate) show: Option<PathBuf>,

    /// Another binary of the gateway than the one just built: an earlier version, say
    #[arg(long, value_name = "FILE")]
    pub(crate) ssegate: Option<PathBuf>,

    /// Where results go; target/compare, if it is not given
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) output: Option<PathBuf>,

    // Cargo says it to every bench.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Figure {
    /// CPU, latency, throughput, memory, opening: everything that the goals are about
    Main,
    /// Throughput with 10 KB and 100 KB
    Payloads,
    /// 200 to 15,000 subscribers at 40,000 deliveries a second
    Subscribers,
    /// One channel with 10,000 subscribers, and 10,000 channels with one each
    Channels,
    /// Latency while 20,000 streams a second come and go on other channels
    Churn,
    /// One shard and two, with 1,000 connections
    Shards,
    /// What 10,000 quiet streams cost
    Idle,
    /// 200,000 messages a second on a pattern that nobody listens to
    Intake,
    /// One after the other
    All,
}

impl Options {
    /// The figures that were asked for.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        if self.figures.contains(&Figure::All) {
            let all = Figure::value_variants().iter().copied();
            return all.filter(|&figure| figure != Figure::All).collect();
        }
        self.figures.clone()
    }

    /// The options as a quick run has them.
    pub(crate) fn shortened(mut self) -> Self {
        if self.quick {
            self.seconds = self.seconds.min(1.5);
            self.rounds = self.rounds.min(3);
        }
        self
    }

    /// The servers to compare, where those of the figure are `ours`.
    pub(crate) fn servers_or(&self, ours: &[Server]) -> Vec<Server> {
        if self.servers.is_empty() { ours.to_vec() } else { self.servers.clone() }
    }

    /// The modes to compare, where those of the figure are `ours`.
    pub(crate) fn modes_or(&self, ours: &[Mode]) -> Vec<Mode> {
        if self.modes.is_empty() { ours.to_vec() } else { self.modes.clone() }
    }
}
