//! Whether an IP address is one of this machine's.

use std::net::{IpAddr, UdpSocket};

/// Whether this machine has the address now. Opens a UDP socket on it, which takes a port from nobody.
pub fn is_own_address(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
