//! Whether the gateway can listen on its addresses, or already does.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use ssegate::config::Settings;
use ssegate::server::own_address::is_own_address;
use ssegate::server::port_holder::PortHolder;
use ssegate::source::SourceLocation;

use super::finding::Finding;

/// Tries each address with a socket that is closed at once, and never listens. Also returns the process that holds one
/// of them, if it is a gateway.
pub(super) fn findings(settings: &Settings) -> (Vec<Finding>, Option<u32>) {
    let addresses = addresses(settings);
    let mut gateway = None;
    let findings = addresses.iter().map(|(key, address)| {
        let leaves_ipv4 = addresses.iter().any(|(_, other)| {
            address.is_ipv6() && other.is_ipv4() && other.port() == address.port()
        });
        let about = format!("{key} {address}");
        match probe(*address, leaves_ipv4) {
            Ok(()) => Finding::ok(about, free(*address)),
            Err(error) => {
                let holder = PortHolder::of(*address);
                let own = holder.as_ref().and_then(PortHolder::gateway);
                gateway = gateway.or(own);
                finding(about, *address, (&error, holder, own))
            }
        }
    });
    (findings.collect(), gateway)
}

fn free(address: SocketAddr) -> &'static str {
    match address.port() {
        0 => "the system will choose a port",
        _ => "free: no gateway runs there now",
    }
}

fn finding(
    about: String,
    address: SocketAddr,
    (error, holder, gateway): (&io::Error, Option<PortHolder>, Option<u32>),
) -> Finding {
    match (error.kind(), holder) {
        (ErrorKind::AddrInUse, _) if gateway.is_some() => {
            let id = gateway.unwrap_or_default();
            Finding::ok(about, format!("held by a gateway that runs (pid {id})"))
        }
        (ErrorKind::AddrInUse, Some(holder)) => Finding::error(
            about,
            format!("in use by {holder}"),
            "stop that, or choose another port. Who it is, root sees: ss -ltnp",
        ),
        (ErrorKind::AddrInUse, None) => {
            Finding::error(about, "in use", "find out by whom: ss -ltnp; or choose another port")
        }
        (ErrorKind::AddrNotAvailable, _) if !is_own_address(address.ip()) => Finding::error(
            about,
            "no network interface of this machine has this address",
            "correct it, or listen on all: 0.0.0.0 or [::]",
        ),
        (ErrorKind::PermissionDenied, _) => Finding::error(
            about,
            "this user may not listen on it: ports below 1024 are for root",
            "run it as its service does (AmbientCapabilities=CAP_NET_BIND_SERVICE), or: setcap \
             cap_net_bind_service=+ep ssegate",
        ),
        _ => Finding::error(about, format!("cannot listen: {error}"), "choose another address"),
    }
}

/// Binds as a listener does, without listening: so nobody can connect.
fn probe(address: SocketAddr, leaves_ipv4: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if leaves_ipv4 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

/// Every address to listen on, with its key in gateway.yaml.
fn addresses(settings: &Settings) -> Vec<(String, SocketAddr)> {
    let listeners = settings.listeners.iter().enumerate();
    let listeners =
        listeners.map(|(index, listener)| (format!("listeners[{index}]"), listener.address));
    let admin = settings.admin.iter().map(|admin| ("admin".to_owned(), admin.address));
    let bus = match settings.source.location {
        SourceLocation::Embedded(address) => Some(("redis.url".to_owned(), address)),
        SourceLocation::Redis(_) => None,
    };
    listeners.chain(admin).chain(bus).collect()
}
