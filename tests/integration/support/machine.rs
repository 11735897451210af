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
