//! Finds the program that listens on a port in use, for the error that reports it.
//!
//! Linux only, from `/proc`. Processes of other users can be seen only by root.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The state TCP_LISTEN in `/proc/net/tcp` (proc(5)).
const LISTENING: &str = "0A";

/// The program that holds a port.
#[derive(Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// Its name and process ID; `None`: it belongs to another user or network namespace.
    process: Option<(String, u32)>,
}

impl PortHolder {
    /// Finds the program that listens on the port of `address`; `None` if nothing can be found out.
    pub fn of(address: SocketAddr) -> Option<Self> {
        let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| conflicting_inodes(&table, address))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        if sockets.is_empty() {
            return None;
        }
        let holds = |socket: &Path| sockets.iter().any(|known| Path::new(known) == socket);
        Some(Self { process: find_process(holds) })
    }

    /// The process ID of the holder, if it is an ssegate.
    pub fn gateway(&self) -> Option<u32> {
        let gateway = self.process.as_ref().filter(|(name, _)| name == "ssegate");
        gateway.map(|(_, id)| *id)
    }
}

/// Returns the inodes of the listening sockets that conflict with `address`.
fn conflicting_inodes(table: &str, address: SocketAddr) -> Vec<String> {
    let is_taken = |local: &str| {
        let (ip, port) = local.split_once(':').unwrap_or_default();
        let is_all = |ip: &str| ip.bytes().all(|digit| digit == b'0');
        let overlaps =
            address.ip().is_unspecified() || is_all(ip) || ip == proc_address(address.ip());
        overlaps && u16::from_str_radix(port, 16) == Ok(address.port())
    };
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listen = lines.filter(|fields| {
        fields.get(3) == Some(&LISTENING) && fields.get(1).is_some_and(|local| is_taken(local))
    });
    listen.filter_map(|fields| fields.get(9).map(ToString::to_string)).collect()
}

/// Formats an address as the tables do: 32-bit words in host byte order, in hex.
fn proc_address(ip: IpAddr) -> String {
    let word = |bytes: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*bytes));
    match ip {
        IpAddr::V4(ip) => word(&ip.octets()),
        IpAddr::V6(ip) => ip.octets().as_chunks().0.iter().map(word).collect(),
    }
}

/// Returns name and ID of the first process with an open file that `holds` accepts.
fn find_process(holds: impl Fn(&Path) -> bool) -> Option<(String, u32)> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|id| {
        let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        let name = || fs::read_to_string(format!("/proc/{id}/comm")).ok();
        links.any(|link| holds(&link)).then(|| Some((name()?.trim_end().to_owned(), id)))?
    })
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((name, id)) => write!(f, "{name} (pid {id})")?,
            None => f.write_str("a process of another user")?,
        }
        if self.gateway().is_some() {
            f.write_str(", which `ssegate run --takeover` would replace")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{PortHolder, conflicting_inodes};

    #[test]
    fn listening_sockets_that_conflict_are_found_in_proc_net_tcp() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   \
            1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n   \
            2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n   \
            3: 00000000:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1\n";
        let inodes =
            |address: &str| conflicting_inodes(table, address.parse().expect("an address"));
        for address in ["127.0.0.1:8080", "0.0.0.0:8080", "[::]:8080"] {
            assert_eq!(inodes(address), ["4711"], "{address}");
        }
        for address in ["127.0.0.1:1", "127.0.0.2:8080", "[::1]:8080"] {
            assert_eq!(inodes(address), Vec::<String>::new(), "{address}");
        }
        // Bound to all addresses.
        assert_eq!(inodes("127.0.0.2:8082"), ["4714"]);
    }

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let holder = PortHolder::of(address).expect("a holder");
        let (_, id) = holder.process.expect("this process");
        assert_eq!(id, std::process::id());
        drop(listener);
        assert_eq!(PortHolder::of(address), None);
        let listener = TcpListener::bind("[::1]:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        assert!(PortHolder::of(address).is_some_and(|holder| holder.process.is_some()));
    }
}
