//! The new gateway: requests the sockets and the histories of the running one.

use std::io::{self, BufRead as _, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use ssegate_hub::{Continued, Hub, Snapshot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::old_servers::{OldMatch, OldServers};
use super::{
    ACCEPTING, HISTORIES, LEAVING, LINE_TIMEOUT, MAX_LINE, MAX_SOCKETS, Passed, REQUEST,
    START_TIMEOUT, closed, other_version, path_for, read_line,
};
use crate::gateway::hubs::{HubServer, Hubs};
use crate::gateway::sockets::Inherited;
use crate::gateway::{Error, state_file};
use crate::health::Health;

/// How long the new gateway waits for its source. Without a source, streams are open but get no events.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the new gateway repeats the request for histories, until it is subscribed to all their channels.
const MEETING_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before it repeats the request.
const MEETING_PAUSE: Duration = Duration::from_millis(250);
/// Why histories are not those of a server: it may be the same one by another address, which is not known without a fleet.
const ELSEWHERE: &str = "its URL is another one than at the old gateway, so these are not known to be its messages; clients that come back \
                         are sent a gap";
/// The received sockets must not leak into child processes. The flag is Linux's; elsewhere it does
/// not matter, since the gateway spawns no processes.
#[cfg(target_os = "linux")]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// The successor's connection to the gateway that it takes over from.
#[derive(Debug)]
pub(in crate::gateway) struct Predecessor {
    stream: BlockingStream,
    servers: OldServers,
}

/// Requests the sockets of the running gateway. Blocks.
pub(in crate::gateway) fn request_sockets(
    address: SocketAddr,
) -> Result<(Inherited, Predecessor), Error> {
    let path = path_for(address).map_err(|cause| Error::Takeover { path: None, cause })?;
    exchange(&path).map_err(|cause| Error::Takeover { path: Some(path), cause })
}

fn exchange(path: &Path) -> io::Result<(Inherited, Predecessor)> {
    let mut stream = BlockingStream::connect(path)?;
    check_user(&stream)?;
    stream.set_read_timeout(Some(LINE_TIMEOUT))?;
    stream.set_write_timeout(Some(LINE_TIMEOUT))?;
    stream.write_all(REQUEST.as_bytes())?;
    let (line, sockets) = receive(&stream)?;
    let passed: Passed = serde_json::from_str(&line)?;
    let servers = OldServers::new(&passed).ok_or_else(other_version)?;
    let addresses = passed.addresses;
    if addresses.is_empty() || addresses.len() != sockets.len() {
        return Err(io::Error::other("the running gateway sent no sockets, or not all of them"));
    }
    let mut inherited = Inherited::default();
    for (address, socket) in addresses.into_iter().zip(sockets) {
        inherited.add(address, TcpListener::from(socket)).map_err(io::Error::other)?;
    }
    Ok((inherited, Predecessor { stream, servers }))
}

/// Checks that the sockets come from a process of this user, whoever may write to the directory.
#[cfg(target_os = "linux")]
fn check_user(stream: &BlockingStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    match peer == rustix::process::geteuid() {
        true => Ok(()),
        false => {
            Err(io::Error::other(format!("another user listens there: uid {}", peer.as_raw())))
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn check_user(_: &BlockingStream) -> io::Result<()> {
    Ok(())
}

/// Receives a line, and the file descriptors that come with its first byte.
fn receive(stream: &BlockingStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut first = [0; 1];
    let mut parts = [IoSliceMut::new(&mut first)];
    let received = rustix::net::recvmsg(stream, &mut parts, &mut control, CLOSE_ON_EXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    let mut line = String::from_utf8_lossy(&first).into_owned();
    io::BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    Ok((line, sockets))
}

/// The connection to the predecessor, on the runtime of this gateway.
#[derive(Debug)]
pub(in crate::gateway) struct ConnectedPredecessor {
    stream: BufReader<UnixStream>,
    servers: OldServers,
}

impl Predecessor {
    /// Moves the connection to the runtime.
    ///
    /// # Errors
    /// Those of the system.
    pub(in crate::gateway) fn connect(self) -> io::Result<ConnectedPredecessor> {
        self.stream.set_nonblocking(true)?;
        let stream = BufReader::new(UnixStream::from_std(self.stream)?);
        Ok(ConnectedPredecessor { stream, servers: self.servers })
    }
}

impl ConnectedPredecessor {
    /// Sets where the numbers of this gateway begin. Where a server has no fleet (`has_fleet`, for each server in
    /// order), also takes the histories, before anything is subscribed, with a gap after them: a later snapshot could
    /// have messages that this gateway has received, too.
    pub(in crate::gateway) async fn begin(&mut self, hubs: &Hubs, has_fleet: &[bool]) {
        for (HubServer { hub, key, .. }, old) in of_both(hubs, &self.servers) {
            match old {
                OldMatch::Same(old) | OldMatch::Moved(old) => hub.begin_after(old.begins_after),
                OldMatch::Missing => {
                    tracing::info!(
                        key,
                        "takeover: the old gateway has no such server: no histories"
                    );
                }
            }
        }
        for (HubServer { index, hub, key, .. }, old) in of_both(hubs, &self.servers) {
            let max_bytes = hub.handover_bytes();
            if has_fleet.get(index).is_some_and(|has| *has) || max_bytes == 0 {
                continue;
            }
            let taken = match old {
                OldMatch::Missing => continue,
                OldMatch::Moved(_) => Err(io::Error::other(ELSEWHERE)),
                OldMatch::Same(old) => {
                    request_histories(&mut self.stream, (max_bytes, old.name.as_deref())).await
                }
            };
            match taken.map(|snapshot| hub.restore(&snapshot)) {
                Ok(channels) => {
                    tracing::info!(
                        channels,
                        key,
                        "takeover: goes on with the histories, and a gap"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, key, "takeover: goes on without the histories")
                }
            }
        }
    }

    /// Waits for the source and takes the histories. Then accepts connections, reports that to the predecessor, and
    /// waits for its confirmation. After that the predecessor no longer serves its takeover socket.
    pub(in crate::gateway) async fn complete(
        self,
        health: &Health,
        hubs: &Hubs,
        may_accept: &CancellationToken,
    ) {
        let listens = async {
            while !(health.is_source_ready() && health.is_fleet_warm()) {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        if time::timeout(SOURCE_TIMEOUT, listens).await.is_err() {
            tracing::warn!("Redis does not respond; taking over without it");
        }
        match self.meet(hubs, may_accept).await {
            Ok(()) => tracing::info!("takeover complete; the old gateway is draining"),
            Err(error) => {
                tracing::warn!(%error, "takeover: the old gateway does not confirm that it drains");
            }
        }
    }

    async fn meet(self, hubs: &Hubs, may_accept: &CancellationToken) -> io::Result<()> {
        // Dropping the guard lets this gateway accept, also after an error.
        let accepting = may_accept.clone().drop_guard();
        let mut stream = self.stream;
        // One deadline for all servers, so that an unreachable one does not delay the takeover further.
        let end = Instant::now() + MEETING_TIMEOUT;
        for (HubServer { hub, key, .. }, old) in of_both(hubs, &self.servers) {
            let (old, is_moved) = match old {
                OldMatch::Missing => continue,
                OldMatch::Same(old) => (old, false),
                OldMatch::Moved(old) => (old, true),
            };
            match take_histories(&mut stream, (hub, old.name.as_deref()), end).await {
                Ok(None) => {}
                Ok(Some(channels)) => {
                    tracing::info!(channels, key, "takeover: goes on with the histories");
                }
                // Marks would have shown that it is the same server.
                Err(_) if is_moved => {
                    tracing::warn!(
                        error = ELSEWHERE,
                        key,
                        "takeover: goes on without the histories"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, key, "takeover: goes on without the histories");
                }
            }
        }
        drop(accepting);
        stream.write_all(ACCEPTING.as_bytes()).await?;
        // The rest of histories that were not read comes first. None of its lines equals this one.
        let left = async {
            loop {
                match read_line(&mut stream).await? {
                    Some(line) if line == LEAVING => return Ok(()),
                    Some(_) => {}
                    None => return Err(closed()),
                }
            }
        };
        time::timeout(LINE_TIMEOUT, left).await?
    }
}

/// The servers of this gateway, each with what the old one has of it.
fn of_both<'a>(
    hubs: &'a Hubs,
    old: &OldServers,
) -> impl Iterator<Item = (HubServer<'a>, OldMatch)> {
    hubs.servers().map(|server| {
        let found = old.find(server.index, (server.name, server.place));
        (server, found)
    })
}

/// Continues the histories of one server of the old gateway. `name`: the name of a server other than the first.
/// Returns the number of channels; `None`: no histories are wanted.
async fn take_histories(
    stream: &mut BufReader<UnixStream>,
    (hub, name): (&Hub, Option<&str>),
    end: Instant,
) -> io::Result<Option<usize>> {
    let max_bytes = hub.handover_bytes();
    if max_bytes == 0 || hub.has_restored() {
        return Ok(None);
    }
    loop {
        let snapshot = request_histories(stream, (max_bytes, name)).await?;
        let is_last = Instant::now() >= end;
        match hub.take_over(&snapshot, is_last) {
            Continued::With(channels) => return Ok(Some(channels)),
            Continued::NoFleet => return Err(io::Error::other("there is no fleet: see /readyz")),
            Continued::TooLate => return Err(io::Error::other("clients are served already")),
            Continued::NotYet if is_last => {
                return Err(io::Error::other(
                    "neither process has received a mark since it subscribed",
                ));
            }
            Continued::NotYet => time::sleep(MEETING_PAUSE).await,
        }
    }
}

async fn request_histories(
    stream: &mut BufReader<UnixStream>,
    (max_bytes, name): (usize, Option<&str>),
) -> io::Result<Snapshot> {
    let most = state_file::max_snapshot(max_bytes);
    let exchanged = async {
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        stream.write_all(format!("{HISTORIES}{max_bytes}{name}\n").as_bytes()).await?;
        let line = read_line(stream).await?.unwrap_or_default();
        let length: u64 = line.trim_end().parse().map_err(|_| other_version())?;
        if length > most {
            return Err(io::Error::other(format!("they are larger than {} MiB", most >> 20)));
        }
        let mut bytes = Vec::new();
        stream.take(length).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let bytes = time::timeout(START_TIMEOUT, exchanged).await??;
    // On another thread: parsing large histories takes a while, and this thread runs the source.
    let now = Instant::now();
    let read = move || Snapshot::read(&bytes, now).map_err(io::Error::other);
    spawn_blocking(read).await?
}
