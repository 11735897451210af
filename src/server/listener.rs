//! Listening sockets, and the acceptors that hand connections to shards.
//!
//! Knows of a shard only how many connections it has. What happens on a connection is the shard's
//! business.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::descriptors::{self, DescriptorLimit, DescriptorShortage};
use super::port_holder::PortHolder;
use super::settings::{ConnectionSettings, ListenerSettings};
use super::tls::ListenerTls;
use super::tls_error::TlsError;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;

/// The backlog of sockets that are not for clients.
const INTERNAL_BACKLOG: i32 = 4096;
/// Backoff after a failed accept(2): doubled from the minimum up to the maximum.
const ACCEPT_RETRY_MIN: Duration = Duration::from_millis(10);
const ACCEPT_RETRY_MAX: Duration = Duration::from_secs(1);
/// How often to check for free file descriptors during a shortage. Meanwhile new clients wait in
/// the kernel's backlog, idle connections are closed, and a reserve stays free for Redis, backends
/// and operators.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// bind(2) or listen(2) failed.
    #[error("cannot listen on {address}: {}", describe(cause, *address))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

impl ListenError {
    /// The address, if its port is in use.
    pub fn address_in_use(&self) -> Option<SocketAddr> {
        match self {
            Self::Bind { address, cause } if cause.kind() == io::ErrorKind::AddrInUse => {
                Some(*address)
            }
            _ => None,
        }
    }
}

fn describe(cause: &io::Error, address: SocketAddr) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = PortHolder::of(address).map(|holder| format!(" by {holder}"));
            let holder = holder.unwrap_or_default();
            format!("address already in use{holder}; stop that program, or choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: ports below 1024 need root or CAP_NET_BIND_SERVICE".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "address not available: no network interface of this machine has it".into()
        }
        _ => cause.to_string(),
    }
}

/// What the connections of an open listener need to know of it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The bound address.
    pub address: SocketAddr,
    /// `None`: clear text.
    pub tls: Option<ListenerTls>,
    /// Whether each connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
}

impl Listener {
    /// The scheme of this listener's URLs: `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// An accepted connection that is being handed to a shard.
#[derive(Debug)]
pub struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    // Index into the listeners.
    pub(super) listener: usize,
}

/// An acceptor's handle to one shard.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    /// Hands a connection over.
    pub accepted: mpsc::Sender<Accepted>,
    /// The shard's connections, including those still in the channel.
    pub load: Arc<AtomicUsize>,
}

/// Opens the socket of a listener and reads its certificate. Uses the socket `inherited` if
/// given. With `leaves_ipv4`, `[::]` accepts IPv6 only (`IPV6_V6ONLY`).
///
/// # Errors
/// The address is in use or the certificate cannot be used; the text says what to do.
pub fn open(
    settings: &ListenerSettings,
    connections: &ConnectionSettings,
    inherited: Option<std::net::TcpListener>,
    leaves_ipv4: bool,
) -> Result<(std::net::TcpListener, Listener), ListenError> {
    let tls = settings.tls.as_ref().map(ListenerTls::load).transpose()?;
    let address = settings.address;
    let socket = inherited.map_or_else(|| bind(address, leaves_ipv4), Ok);
    let socket = socket.and_then(|socket| configure(socket, connections));
    let socket = socket.map_err(|cause| ListenError::Bind { address, cause })?;
    let address = socket.local_addr().map_err(|cause| ListenError::Bind { address, cause })?;
    Ok((socket, Listener { address, tls, proxy_protocol: settings.proxy_protocol }))
}

fn bind(address: SocketAddr, leaves_ipv4: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Set explicitly, so that it does not depend on net.ipv6.bindv6only.
        socket.set_only_v6(leaves_ipv4)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Opens a listening socket that is not for clients, such as the admin listener's. With
/// `leaves_ipv4`, `[::]` accepts IPv6 only (`IPV6_V6ONLY`).
///
/// # Errors
/// The system's error of bind(2) or listen(2).
pub fn listen(address: SocketAddr, leaves_ipv4: bool) -> io::Result<std::net::TcpListener> {
    let listener = bind(address, leaves_ipv4)?;
    SockRef::from(&listener).listen(INTERNAL_BACKLOG)?;
    Ok(listener)
}

/// Added to `write_timeout` for `TCP_USER_TIMEOUT`, so that our own deadline fires first: it counts
/// the connection as cut with its reason, whereas a kernel timeout looks like a client that left.
#[cfg(target_os = "linux")]
const USER_TIMEOUT_MARGIN: Duration = Duration::from_secs(2);

/// Sets socket options and listens. Accepted connections inherit the options (Linux, BSD).
fn configure(
    listener: std::net::TcpListener,
    settings: &ConnectionSettings,
) -> io::Result<std::net::TcpListener> {
    let socket = SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(settings.send_buffer)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(settings.write_timeout))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(settings.write_timeout + USER_TIMEOUT_MARGIN))?;
    socket.set_nonblocking(true)?;
    // On an inherited socket that already listens, this only sets the backlog.
    socket.listen(settings.backlog.into())?;
    Ok(listener)
}

/// Accepts connections on one socket, and hands each to the least loaded shard.
#[derive(Debug)]
pub struct Acceptor {
    /// The listening socket.
    pub socket: TcpListener,
    /// Index of its listener.
    pub listener: usize,
    /// All shards.
    pub shards: Rc<[ShardHandle]>,
    /// Limit of open connections over all listeners.
    pub max_connections: Rc<Cell<usize>>,
    /// Notified when accepting pauses for lack of file descriptors.
    pub shortage: DescriptorShortage,
    /// The metrics to record in.
    pub metrics: Metrics,
}

impl Acceptor {
    /// Runs until `stop`, then closes the socket. A failed accept does not end it: it backs off and
    /// retries.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = ACCEPT_RETRY_MIN;
        let mut last = 0;
        loop {
            // Read on each turn: prlimit(1) may change the limit while the gateway runs.
            if DescriptorLimit::new().is_reached(last, &self.socket) {
                self.metrics.accept_paused();
                self.shortage.pause(self.connections(), Instant::now());
                tokio::select! {
                    () = tokio::time::sleep(SHORTAGE_PAUSE) => continue,
                    () = stop.cancelled() => return,
                }
            }
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => {
                    retry = ACCEPT_RETRY_MIN;
                    last = descriptors::descriptor_number(&stream);
                    self.hand_over(stream, peer).await;
                }
                Err(error) if is_client_error(&error) => {}
                Err(error) => {
                    self.metrics.accept_failed();
                    if descriptors::is_out_of_descriptors(&error) {
                        // Makes the next `is_reached` probe for a free descriptor.
                        last = u64::MAX;
                        self.shortage.pause(self.connections(), Instant::now());
                    } else {
                        warn_accept_failed(&error);
                    }
                    tokio::select! {
                        () = tokio::time::sleep(retry) => {}
                        () = stop.cancelled() => return,
                    }
                    retry = (retry * 2).min(ACCEPT_RETRY_MAX);
                }
            }
        }
    }

    /// Open connections of all shards.
    fn connections(&self) -> usize {
        self.shards.iter().map(|shard| shard.load.load(Ordering::Relaxed)).sum()
    }

    async fn hand_over(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        self.metrics.connection_accepted();
        let loads = self.shards.iter().map(|shard| shard.load.load(Ordering::Relaxed));
        let (total, least) = loads.enumerate().fold((0, None), |(total, least), (index, load)| {
            let least = match least {
                Some((_, least_load)) if least_load <= load => least,
                _ => Some((index, load)),
            };
            (total + load, least)
        });
        if total >= self.max_connections.get() {
            self.metrics.connection_cut("max_connections");
            return;
        }
        let (index, _) = least.expect("there is at least one shard");
        let shard = &self.shards[index];
        shard.load.fetch_add(1, Ordering::Relaxed);
        let accepted = Accepted { stream, peer, listener: self.listener };
        // Fails only when the shard's thread is gone; the process then exits.
        if shard.accepted.send(accepted).await.is_err() {
            shard.load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Rate-limited, since every retry may fail.
fn warn_accept_failed(error: &io::Error) {
    static FAILURES: LogLimit = LogLimit::new();
    if let Some(held_back) = FAILURES.pass("accept", Instant::now()) {
        tracing::warn!(%error, held_back, "cannot accept a connection");
    }
}

fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::time::Duration;

    use super::{ConnectionSettings, bind, configure};

    #[test]
    fn as_many_connections_wait_as_the_backlog_says() {
        let settings = ConnectionSettings { backlog: 2, ..ConnectionSettings::default() };
        let socket = bind(([127, 0, 0, 1], 0).into(), false).expect("a free port");
        let listener = configure(socket, &settings).expect("options of Linux");
        let address = listener.local_addr().expect("it is bound");
        let connect = |timeout| TcpStream::connect_timeout(&address, timeout);
        // Linux lets one more wait.
        let waiting = [(); 3].map(|()| connect(Duration::from_secs(30)).expect("there is room"));
        let refused = connect(Duration::from_millis(300)).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(ErrorKind::TimedOut), "with {} waiting", waiting.len());
    }
}
