//! The servers that are compared, each as its users would run it, on one processor.

pub(crate) mod bare;
mod nchan;
mod origin;
mod pushpin;
mod redis;
mod ssegate;
pub(crate) mod stock;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

pub(crate) use self::redis::ask as ask_redis;

use crate::Outcome;
use crate::certificate::Certificate;
use crate::load::Place;
use crate::machine::{self, Cores};
use crate::mode::{Mode, Protocol};
use crate::process::Process;
use crate::publisher::{Publisher, Way};

/// A server to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// One write(2) for each event and connection, and nothing else: the limit.
    Bare,
    /// This project, with Redis.
    Ssegate,
    /// The same with `history: off`: what history costs.
    SsegateHistoryOff,
    /// The same with `fleet: off`: what it costs that clients can resume at any gateway.
    SsegateFleetOff,
    /// The same with `log: { access: all }`: what the access log costs.
    SsegateAccessLog,
    /// A gateway on hyper's HTTP/2, tokio-rustls and the redis crate: shows what our own HTTP/2 gains.
    Stock,
    /// nginx with Nchan and its Redis store.
    NchanRedis,
    /// nginx with Nchan and its memory store.
    NchanMemory,
    /// Pushpin, published to over ZeroMQ.
    Pushpin,
}

impl Server {
    /// Whether it supports this mode.
    pub(crate) fn speaks(self, mode: Mode) -> bool {
        match self {
            Self::Bare | Self::Pushpin => mode.protocol == Protocol::Http1,
            Self::Ssegate
            | Self::SsegateHistoryOff
            | Self::SsegateFleetOff
            | Self::SsegateAccessLog
            | Self::Stock
            | Self::NchanRedis
            | Self::NchanMemory => true,
        }
    }

    /// The programs that it needs, with the Debian packages that have them.
    pub(crate) fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Bare => &[],
            Self::Ssegate
            | Self::SsegateHistoryOff
            | Self::SsegateFleetOff
            | Self::SsegateAccessLog
            | Self::Stock => &[("redis-server", "redis-server")],
            Self::NchanMemory => &[("nginx", "nginx"), (nchan::MODULE, "libnginx-mod-nchan")],
            Self::NchanRedis => &[
                ("nginx", "nginx"),
                (nchan::MODULE, "libnginx-mod-nchan"),
                ("redis-server", "redis-server"),
            ],
            Self::Pushpin => &[("pushpin", "pushpin"), ("condure", "condure"), ("zurl", "zurl")],
        }
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(self, site: &Site, settings: &Settings) -> Outcome<Running> {
        let mut running = match self {
            Self::Bare => bare::start(site),
            Self::Ssegate => ssegate::start(site, settings, ""),
            Self::SsegateHistoryOff => ssegate::start(site, settings, "sse: { history: off }\n"),
            Self::SsegateAccessLog => {
                // Each line of the access log goes to a file.
                ssegate::start(site, settings, "log: { access: all, access_rate: 1000000 }\n")
            }
            Self::SsegateFleetOff => ssegate::start(site, settings, "fleet: off\n"),
            Self::Stock => stock::start(site),
            Self::NchanRedis => nchan::start(site, true),
            Self::NchanMemory => nchan::start(site, false),
            Self::Pushpin => pushpin::start(site),
        }?;
        let addresses: Vec<SocketAddr> =
            [Some(running.plain), running.tls, Some(running.publish_at)]
                .into_iter()
                .flatten()
                .collect();
        for address in addresses {
            listens(address, &mut running.processes)?;
        }
        Ok(running)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Ssegate => "ssegate",
            Self::SsegateHistoryOff => "ssegate-history-off",
            Self::SsegateFleetOff => "ssegate-fleet-off",
            Self::SsegateAccessLog => "ssegate-access-log",
            Self::Stock => "stock",
            Self::NchanRedis => "nchan-redis",
            Self::NchanMemory => "nchan-memory",
            Self::Pushpin => "pushpin",
        })
    }
}

/// What all servers are started with.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) directory: PathBuf,
    pub(crate) certificate: Certificate,
    pub(crate) cores: Cores,
    /// Files that one process may open.
    pub(crate) files: usize,
    /// The gateway's binary.
    pub(crate) ssegate: PathBuf,
}

/// Settings that some figures change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Threads that serve, in the gateway.
    pub(crate) shards: usize,
    /// How long the gateway follows a channel after its last subscriber.
    pub(crate) linger: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { shards: 1, linger: "5m" }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Running {
    // Ended in this order: the server before the programs that it needs.
    processes: Vec<Process>,
    support: Vec<Process>,
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    // The path of a channel's stream, before the channel's name.
    path: &'static str,
    way: Way,
    publish_at: SocketAddr,
    /// The address of the gateway's metrics.
    pub(crate) admin: Option<SocketAddr>,
}

impl Running {
    /// User and system time of all its processes so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.processes.iter().map(Process::cpu).sum()
    }

    /// The same of the programs that it needs and that do not count as the server: Redis.
    pub(crate) fn support_cpu(&self) -> f64 {
        self.support.iter().map(Process::cpu).sum()
    }

    /// Proportional memory of all its processes, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.processes.iter().map(Process::memory).sum()
    }

    /// Where a load connects to.
    pub(crate) fn place(&self, site: &Site, mode: Mode) -> Outcome<Place> {
        let address = match mode.protocol {
            Protocol::Http1 => self.plain,
            Protocol::Http1Tls | Protocol::Http2Tls => self.tls.ok_or("it does not speak TLS")?,
        };
        let tls = std::sync::Arc::clone(&site.certificate.client);
        // Pushpin turns streams away when many are opened at once on a busy processor: "received
        // message out of sequence, canceling".
        let opening = if self.way == Way::ZeroMq { 2 } else { 64 };
        Ok(Place { address, mode, path: self.path.into(), tls, opening })
    }

    /// Connects to publish.
    pub(crate) fn publisher(&self) -> Outcome<Publisher> {
        Publisher::connect(self.way, self.publish_at)
    }

    /// The address of its Redis.
    pub(crate) fn redis(&self) -> Option<SocketAddr> {
        (self.way == Way::Redis).then_some(self.publish_at)
    }

    /// The end of its logs, for the report of an error.
    pub(crate) fn logs(&self) -> String {
        self.processes.iter().map(Process::log).collect()
    }
}

/// Waits until a process listens there.
fn listens(address: SocketAddr, processes: &mut [Process]) -> Outcome {
    let timeout = Duration::from_millis(200);
    let mut died = Ok(());
    let is_there = machine::wait(10.0, || {
        died = processes.iter_mut().try_for_each(Process::check);
        died.is_err() || TcpStream::connect_timeout(&address, timeout).is_ok()
    })?;
    died?;
    if is_there { Ok(()) } else { Err(format!("nobody listens on {address}").into()) }
}

/// An address of loopback on which nothing listens, below those that the system assigns itself.
fn free_address() -> SocketAddr {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    let port = ports.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    (Ipv4Addr::LOCALHOST, port.expect("some port is free")).into()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}
