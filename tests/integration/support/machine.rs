//! What the machine says of itself.

/// Memory of all TCP sockets of the machine, from `/proc/net/sockstat`, which counts pages.
pub(crate) fn kernel_tcp_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let pages = line.split_once(" mem ").unwrap().1.split(' ').next().unwrap();
    pages.parse::<usize>().unwrap() * rustix::param::page_size()
}
