//! Listening sockets, and the acceptors that hand connections to shards.

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

use super::files::{self, Room, Shortage};
use super::holder::Holder;
use super::tls::{Tls, TlsError};
use super::{ConnectionSettings, ListenerSettings};
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;
/// Accepting failed: the first wait, doubled up to the cap. Nothing ends, nothing spins.
const ACCEPT_RETRY_MIN: Duration = Duration::from_millis(10);
const ACCEPT_RETRY_MAX: Duration = Duration::from_secs(1);
/// While file descriptors are used up, who comes waits in the kernel: what is idle gives way, and some
/// descriptors are left for Redis, backends and operators. It is looked so often whether there are some
/// again.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", describe(cause, *address))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

impl ListenError {
    /// The address, where somebody else has its port.
    pub fn taken(&self) -> Option<SocketAddr> {
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
            let holder = Holder::of(address).map(|holder| format!(" by {holder}"));
            let holder = holder.unwrap_or_default();
            format!("the port is taken{holder}; stop that program, or choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            "not allowed; ports below 1024 need root or CAP_NET_BIND_SERVICE".into()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ => cause.to_string(),
    }
}

/// An open listener, as connections know it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it shows, if it speaks TLS.
    pub tls: Option<Tls>,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

impl Listener {
    /// The scheme of its URLs: `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// A connection on its way to a shard.
#[derive(Debug)]
pub struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    // Its place among the listeners.
    pub(super) listener: usize,
}

/// The way to one shard, for acceptors.
#[derive(Clone, Debug)]
pub struct ShardDoor {
    /// Hands a connection over.
    pub accepted: mpsc::Sender<Accepted>,
    /// Its connections, those on their way included.
    pub load: Arc<AtomicUsize>,
}

/// Opens the socket of a listener, unless it is there already, and reads its certificate. With
/// `leaves_ipv4`, `[::]` is IPv6 alone.
///
/// # Errors
/// When the address is taken or the certificate cannot be used; each says what to do.
pub fn open(
    settings: &ListenerSettings,
    connections: &ConnectionSettings,
    there: Option<std::net::TcpListener>,
    leaves_ipv4: bool,
) -> Result<(std::net::TcpListener, Listener), ListenError> {
    let tls = settings.tls.as_ref().map(Tls::load).transpose()?;
    let address = settings.address;
    let socket = there.map_or_else(|| bind(address, leaves_ipv4), Ok);
    let socket = socket.and_then(|socket| prepare(socket, connections));
    let socket = socket.map_err(|cause| ListenError::Bind { address, cause })?;
    let address = socket.local_addr().map_err(|cause| ListenError::Bind { address, cause })?;
    Ok((socket, Listener { address, tls, proxy_protocol: settings.proxy_protocol }))
}

fn bind(address: SocketAddr, leaves_ipv4: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Said, so that it is the same whatever net.ipv6.bindv6only says.
        socket.set_only_v6(leaves_ipv4)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Listens on an address that is not for clients: with `leaves_ipv4`, `[::]` is IPv6 alone.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr, leaves_ipv4: bool) -> io::Result<std::net::TcpListener> {
    let listener = bind(address, leaves_ipv4)?;
    SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

/// So much later than we do the kernel gives a client up: who is cut off by us is counted with the
/// reason, and who is cut off by the kernel has only left.
#[cfg(target_os = "linux")]
const AFTER_US: Duration = Duration::from_secs(2);

/// Listens. The options are inherited by the connections that are accepted (Linux, BSD).
fn prepare(
    listener: std::net::TcpListener,
    settings: &ConnectionSettings,
) -> io::Result<std::net::TcpListener> {
    let socket = SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(settings.send_buffer)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(settings.write_timeout))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(settings.write_timeout + AFTER_US))?;
    socket.set_nonblocking(true)?;
    // One that listens already only gets its backlog.
    socket.listen(BACKLOG)?;
    Ok(listener)
}

/// Accepts connections on one socket, and hands each to the least loaded shard.
#[derive(Debug)]
pub struct Acceptor {
    /// The socket.
    pub socket: TcpListener,
    /// Its place among the listeners.
    pub listener: usize,
    /// The shards.
    pub doors: Rc<[ShardDoor]>,
    /// Connections at once, over all listeners.
    pub max_connections: Rc<Cell<usize>>,
    /// Where it tells that file descriptors run out.
    pub shortage: Shortage,
    /// Where it records.
    pub metrics: Metrics,
}

impl Acceptor {
    /// Runs until `stop`; then the socket is closed. An error of one accept never ends it.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = ACCEPT_RETRY_MIN;
        let mut last = 0;
        loop {
            // The limit is read each time: it may be lowered or raised while the gateway runs.
            if Room::new().is_full(last, &self.socket) {
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
                    last = files::number(&stream);
                    self.hand_over(stream, peer).await;
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    self.metrics.accept_failed();
                    if files::is_of_files(&error) {
                        // Looks closely, whatever the limit was at the start.
                        last = u64::MAX;
                        self.shortage.pause(self.connections(), Instant::now());
                    } else {
                        warn_of(&error);
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

    /// Connections of all shards.
    fn connections(&self) -> usize {
        self.doors.iter().map(|door| door.load.load(Ordering::Relaxed)).sum()
    }

    async fn hand_over(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        self.metrics.connection_accepted();
        let loads = self.doors.iter().map(|door| door.load.load(Ordering::Relaxed));
        let (total, least) = loads.enumerate().fold((0, None), |(total, least), (shard, load)| {
            let least = match least {
                Some((_, least_load)) if least_load <= load => least,
                _ => Some((shard, load)),
            };
            (total + load, least)
        });
        if total >= self.max_connections.get() {
            self.metrics.connection_cut("max_connections");
            return;
        }
        let (shard, _) = least.expect("there is at least one shard");
        let door = &self.doors[shard];
        door.load.fetch_add(1, Ordering::Relaxed);
        let accepted = Accepted { stream, peer, listener: self.listener };
        // It fails when the shard is gone, and then the process ends.
        if door.accepted.send(accepted).await.is_err() {
            door.load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The system may say so at every try.
fn warn_of(error: &io::Error) {
    static FAILURES: LogLimit = LogLimit::new();
    if let Some(held_back) = FAILURES.pass("accept", Instant::now()) {
        tracing::warn!(%error, held_back, "cannot accept a connection");
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
