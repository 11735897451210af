//! Whether the limits of the system are high enough for what the configuration allows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit};
use ssegate::config::Settings;
use ssegate::route::{Target, UpstreamAddress};
use ssegate::server::descriptors;
use ssegate::source::SourceLocation;

use super::finding::Finding;

/// The memory of a quiet stream with a connection of its own over HTTP/2 and TLS, in bytes (docs/ARCHITECTURE.md,
/// "Why an HTTP/2 of our own").
const STREAM_BYTES: u64 = 10_900;

/// What the system allows. Each is `None` where it cannot be read.
#[derive(Clone, Debug, Default)]
pub(super) struct SystemLimits {
    /// Open files of the gateway, or of what this user would start.
    pub(super) open_files: Option<u64>,
    /// Connections that may wait on a listening socket.
    pub(super) somaxconn: Option<u64>,
    /// Ports for connections to one address.
    pub(super) ephemeral_ports: Option<u64>,
    /// Memory of the machine or the control group, in bytes.
    pub(super) memory: Option<u64>,
    /// Connections that the firewall tracks.
    pub(super) conntrack: Option<u64>,
}

impl SystemLimits {
    /// Those of the gateway with this process id; `None`: of this process, with its soft limit raised as a gateway
    /// raises it.
    pub(super) fn read(gateway: Option<u32>) -> Self {
        let of_process = gateway.and_then(|id| {
            let limits = fs::read_to_string(format!("/proc/{id}/limits")).ok()?;
            max_open_files(&limits)
        });
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let ports =
            fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        Self {
            // Without a limit there is nothing to compare.
            open_files: of_process.or_else(|| getrlimit(Resource::Nofile).maximum),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            ephemeral_ports: port_range(&ports),
            memory: machine.into_iter().chain(control_group_memory(gateway)).min(),
            conntrack: number("/proc/sys/net/netfilter/nf_conntrack_max"),
        }
    }

    /// Compares them with what the configuration allows.
    pub(super) fn findings(&self, settings: &Settings) -> Vec<Finding> {
        let findings = [
            self.files(settings),
            self.backlog(settings),
            self.ports(settings),
            self.memory(settings),
            self.tracked(settings),
        ];
        findings.into_iter().flatten().collect()
    }

    fn files(&self, settings: &Settings) -> Option<Finding> {
        const ABOUT: &str = "open files";
        let limit = self.open_files?;
        let sockets = settings.listeners.len() + 2;
        let clients = descriptors::most_clients(limit, settings.shards, sockets);
        let wanted = settings.connections.max_connections as u64;
        if clients >= wanted {
            return Some(Finding::ok(
                ABOUT,
                format!(
                    "{limit}, enough for limits.connections ({wanted}), as long as few are forwarded"
                ),
            ));
        }
        Some(Finding::warning(
            ABOUT,
            format!(
                "{limit} are enough for {clients} clients, fewer while requests are forwarded (one more each), and \
                 limits.connections is {wanted}"
            ),
            "raise LimitNOFILE= in the unit, or ulimit -Hn; or lower limits.connections, so that the gateway \
             refuses clients before the system does",
        ))
    }

    fn backlog(&self, settings: &Settings) -> Option<Finding> {
        const ABOUT: &str = "net.core.somaxconn";
        let (limit, wanted) = (self.somaxconn?, u64::from(settings.connections.backlog));
        Some(match limit >= wanted {
            true => Finding::ok(ABOUT, format!("{limit}, enough for sockets.backlog ({wanted})")),
            false => Finding::warning(
                ABOUT,
                format!("{limit}, so sockets.backlog ({wanted}) is cut to it"),
                format!(
                    "sysctl -w net.core.somaxconn={wanted}, for when many clients come back at once"
                ),
            ),
        })
    }

    fn ports(&self, settings: &Settings) -> Option<Finding> {
        const ABOUT: &str = "net.ipv4.ip_local_port_range";
        let limit = self.ephemeral_ports?;
        let (upstream, wanted) = busiest_upstream(settings)?;
        Some(match limit >= wanted {
            true => Finding::ok(
                ABOUT,
                format!("{limit} ports, enough for proxy.max_connections ({wanted} to {upstream})"),
            ),
            false => Finding::warning(
                ABOUT,
                format!(
                    "{limit} ports, fewer than the {wanted} connections that may go to {upstream}"
                ),
                "widen it (1024 65535), lower proxy.max_connections, or name several upstreams",
            ),
        })
    }

    fn memory(&self, settings: &Settings) -> Option<Finding> {
        const ABOUT: &str = "memory";
        let limit = self.memory?;
        let bounds = bounds(settings);
        let streams = settings.connections.max_connections as u64 * STREAM_BYTES;
        let (has, may) = (mebibytes(limit), mebibytes(bounds + streams));
        let found = format!(
            "{has} MiB; histories, queues and uploads may take {} MiB, and {} quiet streams over TLS about {} MiB",
            mebibytes(bounds),
            settings.connections.max_connections,
            mebibytes(streams)
        );
        Some(match bounds + streams <= limit {
            true => Finding::ok(ABOUT, found),
            false => Finding::warning(
                ABOUT,
                found,
                format!(
                    "{may} MiB in all is more than there is: lower limits.connections, history_memory or \
                     limits.queue_memory, or the system may kill it"
                ),
            ),
        })
    }

    fn tracked(&self, settings: &Settings) -> Option<Finding> {
        let (limit, wanted) = (self.conntrack?, settings.connections.max_connections as u64);
        (limit < wanted).then(|| {
            Finding::warning(
                "net.netfilter.nf_conntrack_max",
                format!("{limit}: the firewall drops connections beyond it, and limits.connections is {wanted}"),
                format!("sysctl -w net.netfilter.nf_conntrack_max={}", 2 * wanted),
            )
        })
    }
}

/// The bounds of what the gateway keeps for others, in bytes.
fn bounds(settings: &Settings) -> u64 {
    let bus = match settings.source.location {
        SourceLocation::Embedded(_) => {
            settings.source.max_bus_memory + settings.source.max_bus_streams
        }
        SourceLocation::Redis(_) => 0,
    };
    let hub = &settings.hub;
    let bounds = [hub.history_memory, hub.queue_memory, settings.connections.upload_memory, bus];
    bounds.iter().map(|&bytes| bytes as u64).sum()
}

/// The upstream over TCP to which the most connections may go, over all routes.
fn busiest_upstream(settings: &Settings) -> Option<(String, u64)> {
    let mut most: BTreeMap<String, u64> = BTreeMap::new();
    for route in &settings.routes {
        let Target::Proxy(proxy) = &route.target else { continue };
        // The limit is shared by all upstreams of the route.
        let each = proxy.max_connections.div_ceil(proxy.upstreams.len().max(1)) as u64;
        for upstream in &proxy.upstreams {
            if let UpstreamAddress::Tcp { .. } = upstream {
                *most.entry(upstream.to_string()).or_default() += each;
            }
        }
    }
    most.into_iter().max_by_key(|(_, connections)| *connections)
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

/// The hard limit in `/proc/PID/limits` (proc(5)): a gateway raises its soft limit to it.
fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// How many ports the range has, including both ends (ip(7)).
fn port_range(text: &str) -> Option<u64> {
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The least limit of the control groups (version 2) that a process is in.
fn control_group_memory(process: Option<u32>) -> Option<u64> {
    let process = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = PathBuf::from("/sys/fs/cgroup");
    let own = root.join(path.trim_start_matches('/'));
    let above = own.ancestors().take_while(|group| group.starts_with(&root));
    let limit = |group: &std::path::Path| {
        // `max` does not parse: there is no limit.
        fs::read_to_string(group.join("memory.max")).ok()?.trim().parse::<u64>().ok()
    };
    above.filter_map(limit).min()
}
