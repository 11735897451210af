//! Checks whether this machine has an IP address.

use std::net::{IpAddr, UdpSocket};

/// Whether a network interface has the address now. Binds a UDP socket to it on a free port, which
/// conflicts with no listener.
pub fn is_own_address(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
