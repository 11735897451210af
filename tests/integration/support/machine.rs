//! What the machine says of itself.

use std::net::SocketAddr;

/// Memory of all TCP sockets of the machine, from `/proc/net/sockstat`, which counts pages.
pub(crate) fn kernel_tcp_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let pages = line.split_once(" mem ").unwrap().1.split(' ').next().unwrap();
    pages.parse::<usize>().unwrap() * rustix::param::page_size()
}

/// What waits in the kernel to be sent from `local`, and from how many sockets.
pub(crate) fn unsent_bytes(local: SocketAddr) -> (usize, usize) {
    let port = format!(":{:04X}", local.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let queue = usize::from_str_radix(fields[4].split_once(':')?.0, 16).ok()?;
        (fields[1].ends_with(&port) && queue > 0).then_some(queue)
    });
    queues.fold((0, 0), |(bytes, sockets), queue| (bytes + queue, sockets + 1))
}

/// What waits in the kernel at sockets of these addresses, to be sent from there or to be read there.
/// Unlike [`kernel_tcp_bytes`] it knows of nobody else's.
pub(crate) fn waiting_bytes(locals: &[SocketAddr]) -> usize {
    let ports: Vec<_> = locals.iter().map(|local| format!(":{:04X}", local.port())).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // A socket that listens counts connections there.
    let ours = lines.filter(|fields| {
        fields[3] != "0A" && ports.iter().any(|port| fields[1].ends_with(port.as_str()))
    });
    let queues = ours.flat_map(|fields| {
        let (sent, received) = fields[4].split_once(':').unwrap();
        [sent, received].map(|queue| usize::from_str_radix(queue, 16).unwrap())
    });
    queues.sum()
}

/// What waits in the kernel to be read, at the ends of connections whose other end is at `peer`.
pub(crate) fn unread_bytes_of(peer: SocketAddr) -> usize {
    let port = format!(":{:04X}", peer.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let theirs = lines.filter(|fields| fields[2].ends_with(&port));
    theirs
        .map(|fields| usize::from_str_radix(fields[4].split_once(':').unwrap().1, 16).unwrap())
        .sum()
}
