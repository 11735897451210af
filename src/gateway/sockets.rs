//! The listening sockets: bound here, or inherited from systemd (socket activation,
//! sd_listen_fds(3)) or from the gateway that is taken over.

use std::net::{SocketAddr, TcpListener};

use super::Error;
use crate::config::Settings;
use crate::server::listener::{self, ListenError, Listener};
use crate::source::SourceLocation;

/// Listening sockets that this process did not bind.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    // The address in the configuration of the process that bound it. May have port 0.
    wanted: SocketAddr,
    bound: SocketAddr,
    socket: TcpListener,
}

impl Inherited {
    /// The sockets that systemd passed, if it did.
    pub(super) fn from_systemd() -> Result<Self, Error> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..passed.len() {
            // An error means that it is not a TCP socket.
            if let Some(socket) = passed.take_tcp_listener(index).map_err(Error::InheritedSocket)? {
                let bound = socket.local_addr()?;
                inherited.add(bound, socket)?;
            }
        }
        Ok(inherited)
    }

    pub(super) fn add(&mut self, wanted: SocketAddr, socket: TcpListener) -> Result<(), Error> {
        let bound = socket.local_addr()?;
        self.0.push(InheritedSocket { wanted, bound, socket });
        Ok(())
    }

    /// Removes and returns the first socket with this address.
    fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let has_address =
            |known: &InheritedSocket| known.bound == address || known.wanted == address;
        let index = self.0.iter().position(has_address)?;
        Some(self.0.remove(index).socket)
    }

    /// The addresses of the sockets that were not taken.
    pub(super) fn unused(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|socket| socket.bound).collect()
    }
}

/// All listening sockets of a gateway.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) listeners: Vec<(TcpListener, Listener)>,
    pub(super) admin: Option<TcpListener>,
    pub(super) bus: Option<TcpListener>,
    /// Duplicates of all of them, with their configured addresses, for a successor.
    pub(super) shared: Vec<(SocketAddr, TcpListener)>,
}

impl Sockets {
    /// Binds the sockets that are not inherited. Sets the bound addresses in `settings`, where the
    /// system chooses for port 0.
    pub(super) fn open(settings: &mut Settings, inherited: &mut Inherited) -> Result<Self, Error> {
        let mut shared = Vec::new();
        let mut share = |address, socket: &TcpListener| {
            shared.push((address, socket.try_clone()?));
            Ok::<_, Error>(())
        };
        let mut listeners = Vec::new();
        let all = addresses(settings);
        for wanted in &mut settings.listeners {
            let inherited_socket = inherited.take(wanted.address);
            let leaves_ipv4 = leaves_ipv4(wanted.address, &all);
            let (socket, listener) =
                listener::open(wanted, &settings.connections, inherited_socket, leaves_ipv4)?;
            share(wanted.address, &socket)?;
            wanted.address = listener.address;
            listeners.push((socket, listener));
        }
        let mut open = |address: &mut SocketAddr| {
            let wanted = *address;
            let socket = bind(address, inherited.take(wanted), leaves_ipv4(wanted, &all))?;
            share(wanted, &socket)?;
            Ok::<_, Error>(socket)
        };
        let admin = match &mut settings.admin {
            Some(admin) => Some(open(&mut admin.address)?),
            None => None,
        };
        let bus = match &mut settings.source.location {
            SourceLocation::Embedded(address) => Some(open(address)?),
            SourceLocation::Redis(_) => None,
        };
        Ok(Self { listeners, admin, bus, shared })
    }
}

/// Every address to listen on.
pub(super) fn addresses(settings: &Settings) -> Vec<SocketAddr> {
    let listeners = settings.listeners.iter().map(|listener| listener.address);
    let admin = settings.admin.iter().map(|admin| admin.address);
    let bus = match settings.source.location {
        SourceLocation::Embedded(address) => Some(address),
        SourceLocation::Redis(_) => None,
    };
    listeners.chain(admin).chain(bus).collect()
}

/// Whether `[::]`, which also accepts IPv4, has to leave IPv4 to another listener on the same port
/// (`IPV6_V6ONLY`).
fn leaves_ipv4(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let is_every = address.is_ipv6() && address.ip().is_unspecified();
    is_every && all.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

/// Binds a socket unless `inherited_socket` is one, and sets `address` to the bound address.
fn bind(
    address: &mut SocketAddr,
    inherited_socket: Option<TcpListener>,
    leaves_ipv4: bool,
) -> Result<TcpListener, ListenError> {
    let new = || listener::listen(*address, leaves_ipv4);
    let opened = inherited_socket.map_or_else(new, Ok).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok((socket.local_addr()?, socket))
    });
    let (bound, socket) = opened.map_err(|cause| ListenError::Bind { address: *address, cause })?;
    *address = bound;
    Ok(socket)
}
