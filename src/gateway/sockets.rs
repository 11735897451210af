//! Where the listening sockets come from: they are opened here, or were open before this process was
//! there: systemd's (socket activation, sd_listen_fds(3)), or those of the gateway that is taken over.

use std::net::{SocketAddr, TcpListener};

use super::Error;
use crate::config::Settings;
use crate::server::listener::{self, ListenError, Listener};
use crate::source::SourceLocation;

/// Sockets that listened before this process was there.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    // As the configuration of who opened it says: port 0, perhaps.
    wanted: SocketAddr,
    bound: SocketAddr,
    socket: TcpListener,
}

impl Inherited {
    /// Those that systemd hands over; none where it does not.
    pub(super) fn from_systemd() -> Result<Self, Error> {
        let mut handed = listenfd::ListenFd::from_env();
        let mut inherited = Self::default();
        for place in 0..handed.len() {
            // An error is a socket of another kind.
            if let Some(socket) = handed.take_tcp_listener(place).map_err(Error::Inherited)? {
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

    /// The socket of this address, each once, in the order in which they were opened.
    fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_it = |known: &InheritedSocket| known.bound == address || known.wanted == address;
        let place = self.0.iter().position(is_it)?;
        Some(self.0.remove(place).socket)
    }

    /// The addresses that nobody has taken.
    pub(super) fn left(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|left| left.bound).collect()
    }
}

/// Everything that listens.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) listeners: Vec<(TcpListener, Listener)>,
    pub(super) admin: Option<TcpListener>,
    pub(super) bus: Option<TcpListener>,
    /// All of them a second time, each with the address that it was opened for: for a successor.
    pub(super) shared: Vec<(SocketAddr, TcpListener)>,
}

impl Sockets {
    /// Opens what is not there yet, and notes in `settings` where: port 0 lets the system choose.
    pub(super) fn open(settings: &mut Settings, inherited: &mut Inherited) -> Result<Self, Error> {
        let mut shared = Vec::new();
        let mut share = |address, socket: &TcpListener| {
            shared.push((address, socket.try_clone()?));
            Ok::<_, Error>(())
        };
        let mut listeners = Vec::new();
        let all = addresses(settings);
        for wanted in &mut settings.listeners {
            let there = inherited.take(wanted.address);
            let leaves_ipv4 = leaves_ipv4(wanted.address, &all);
            let (socket, listener) =
                listener::open(wanted, &settings.connections, there, leaves_ipv4)?;
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

/// Every address that is listened on.
pub(super) fn addresses(settings: &Settings) -> Vec<SocketAddr> {
    let listeners = settings.listeners.iter().map(|listener| listener.address);
    let admin = settings.admin.iter().map(|admin| admin.address);
    let bus = match settings.source.location {
        SourceLocation::Embedded(address) => Some(address),
        SourceLocation::Redis(_) => None,
    };
    listeners.chain(admin).chain(bus).collect()
}

/// Whether `[::]`, which takes IPv4 too, has to leave it to another listener on the same port.
fn leaves_ipv4(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let is_every = address.is_ipv6() && address.ip().is_unspecified();
    is_every && all.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

/// Opens a socket if it is not there, and notes where it is bound.
fn bind(
    address: &mut SocketAddr,
    there: Option<TcpListener>,
    leaves_ipv4: bool,
) -> Result<TcpListener, ListenError> {
    let new = || listener::listen(*address, leaves_ipv4);
    let opened = there.map_or_else(new, Ok).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok((socket.local_addr()?, socket))
    });
    let (bound, socket) = opened.map_err(|cause| ListenError::Bind { address: *address, cause })?;
    *address = bound;
    Ok(socket)
}
