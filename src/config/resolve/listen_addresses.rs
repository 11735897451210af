//! The addresses that the gateway itself listens on: each can be used once, and no backend may be one of
//! them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::server::own_address::is_own_address;

/// The host name of this machine or container (proc_sys_kernel(5)).
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The addresses so far, each with the path of its key.
#[derive(Debug, Default)]
pub(super) struct ListenAddresses(Vec<(SocketAddr, String)>);

impl ListenAddresses {
    /// Adds the address of the key at `path`.
    ///
    /// # Errors
    /// A message that names the key which uses the address already.
    pub(super) fn claim(&mut self, address: SocketAddr, path: &str) -> Result<(), String> {
        match self.0.iter().find(|(other, _)| overlap(*other, address)) {
            Some((other, path)) if *other == address => {
                Err(format!("{address} is already in use by {path}"))
            }
            Some((other, path)) => Err(format!("{address} is already in use by {path} ({other})")),
            None => {
                self.0.push((address, path.to_owned()));
                Ok(())
            }
        }
    }

    /// Returns the path of the key whose listener this host and port reach.
    pub(super) fn key_reached_by(&self, host: &str, port: u16) -> Option<&str> {
        let is_own = |(address, _): &&(SocketAddr, String)| reaches(host, port, *address);
        self.0.iter().find(is_own).map(|(_, path)| path.as_str())
    }
}

/// Whether a process cannot listen on both: the port is the same, and one address includes the other.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    let (a, b) = (a.ip().to_canonical(), b.ip().to_canonical());
    // `[::]` does not conflict with a listener on an IPv4 address.
    let same_family = a.is_ipv4() == b.is_ipv4();
    let all = a.is_unspecified() || b.is_unspecified();
    same_port && same_family && (all || a == b)
}

/// Whether a connection to this host and port reaches the listener at `address`. Names are not resolved:
/// apart from localhost and the host name of this machine, they are taken for other machines.
pub(crate) fn reaches(host: &str, port: u16, address: SocketAddr) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let to = if let Some(ip) = ip_address(host) {
        vec![ip.to_canonical()]
    } else if is_localhost(host) {
        vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        // The host name resolves to one of our addresses, but we do not know which.
        let at_all = address.ip().is_unspecified() && address.port() == port;
        return at_all && is_name_of_this_machine(host);
    };
    let at = address.ip().to_canonical();
    let finds = |to: &IpAddr| {
        // Connecting to 0.0.0.0 connects to this machine.
        let is_here = to.is_unspecified() || to.is_loopback() || is_own_address(*to);
        let is_family = to.is_ipv4() == at.is_ipv4() || at.is_ipv6();
        *to == at
            || at.is_unspecified() && is_family && is_here
            || at.is_loopback() && to.is_unspecified()
    };
    address.port() == port && to.iter().any(finds)
}

/// The address that `host` is, also in the forms of IPv4 addresses that getaddrinfo(3) takes from inet_aton(3):
/// `127.1`, `2130706433`, `0x7f000001`, `0177.0.0.1`.
fn ip_address(host: &str) -> Option<IpAddr> {
    if let Ok(ip) = host.parse() {
        return Some(ip);
    }
    let numbers: Vec<u32> = host.split('.').map(inet_aton_number).collect::<Option<_>>()?;
    let (last, bytes) = numbers.split_last()?;
    // The last number fills the bytes that are left.
    let free = 4 - u32::try_from(bytes.len()).ok().filter(|length| *length < 4)?;
    let is_small = bytes.iter().all(|byte| *byte < 256) && u64::from(*last) < 1 << (8 * free);
    let front = bytes.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    let address = front << (8 * free) | u64::from(*last);
    let address = u32::try_from(address).ok().filter(|_| is_small)?;
    Some(Ipv4Addr::from_bits(address).into())
}

/// A number in decimal, in hexadecimal after `0x`, or in octal after `0`.
fn inet_aton_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    u32::from_str_radix(digits, radix).ok().filter(|_| is_number)
}

/// Whether `host` is `localhost` or a name below it, which are this machine (RFC 6761, section 6.3).
fn is_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether `host` is the host name of this machine, by which containers address each other.
fn is_name_of_this_machine(host: &str) -> bool {
    let name = std::fs::read_to_string(HOST_NAME);
    name.is_ok_and(|name| name.trim_end().eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::{HOST_NAME, overlap, reaches};

    #[test]
    fn addresses_overlap_where_a_process_cannot_listen_on_both() {
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("0.0.0.0:80", "[::]:80", false),
            ("0.0.0.0:80", "[::ffff:127.0.0.1]:80", true),
        ] {
            let parse = |text: &str| text.parse().expect("an address");
            assert_eq!(overlap(parse(a), parse(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn every_name_of_the_gateway_itself_is_recognized() {
        for (host, at, expected) in [
            ("127.0.0.1", "127.0.0.1:80", true),
            ("localhost", "127.0.0.1:80", true),
            ("LOCALHOST", "[::1]:80", true),
            ("127.0.0.1", "0.0.0.0:80", true),
            ("127.0.0.1", "[::]:80", true),
            ("0.0.0.0", "127.0.0.1:80", true),
            ("::ffff:127.0.0.1", "127.0.0.1:80", true),
            ("::1", "[::]:80", true),
            ("127.1", "127.0.0.1:80", true),
            ("127.0.1", "127.0.0.1:80", true),
            ("2130706433", "127.0.0.1:80", true),
            ("0x7f000001", "127.0.0.1:80", true),
            ("0x7F.1", "127.0.0.1:80", true),
            ("0177.0.0.01", "127.0.0.1:80", true),
            ("0", "127.0.0.1:80", true),
            ("127.1", "0.0.0.0:80", true),
            ("localhost.", "127.0.0.1:80", true),
            ("app.localhost", "127.0.0.1:80", true),
            ("127.1.", "127.0.0.1:80", true),
            ("127.256", "127.0.0.1:80", false),
            ("4294967296", "0.0.0.0:80", false),
            ("127.0.0.0.1", "127.0.0.1:80", false),
            ("0x", "0.0.0.0:80", false),
            ("+1", "0.0.0.0:80", false),
            ("08", "0.0.0.0:80", false),
            ("notlocalhost", "127.0.0.1:80", false),
            ("127.0.0.1", "127.0.0.1:81", false),
            ("127.0.0.2", "127.0.0.1:80", false),
            ("192.0.2.1", "0.0.0.0:80", false),
            ("backend", "0.0.0.0:80", false),
        ] {
            let address = at.parse().expect("an address");
            assert_eq!(reaches(host, 80, address), expected, "{host} {at}");
        }
        let name = std::fs::read_to_string(HOST_NAME).expect("a name").trim_end().to_uppercase();
        let at = |at: &str| at.parse().expect("an address");
        assert!(reaches(&name, 80, at("0.0.0.0:80")) && reaches(&name, 80, at("[::]:80")));
        assert!(!reaches(&name, 81, at("0.0.0.0:80")) && !reaches(&name, 80, at("127.0.0.1:80")));
    }
}
