//! The running gateway: waits for a successor, and passes it the sockets and the histories.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use ssegate_hub::Hub;
use tokio::io::{AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{self, Instant};

use super::old_servers::places;
use super::{
    ACCEPTING, HISTORIES, LEAVING, LINE_TIMEOUT, MAX_SOCKETS, Passed, REQUEST, START_TIMEOUT,
    closed, expect, other_version, path_for, read_line,
};
use crate::gateway::hubs::Hubs;
use crate::gateway::state_file::NO_ROOM;

/// The most connections that have not sent a request.
const MAX_SILENT: usize = 64;
const FAILED: &str = "a takeover has failed; this gateway continues";

/// The unix socket at which a successor requests the listening sockets.
#[derive(Debug)]
pub(super) struct TakeoverSocket {
    path: PathBuf,
    listener: UnixListener,
    sockets: Vec<(SocketAddr, TcpListener)>,
    hubs: Hubs,
    // The inode of the file at `path`. Another gateway may have replaced the file.
    inode: u64,
    // False once a successor has taken over: then the file is the successor's.
    owns_path: bool,
}

impl TakeoverSocket {
    /// Binds the socket, replacing that of a predecessor, which has ended or is draining.
    pub(super) fn open(sockets: Vec<(SocketAddr, TcpListener)>, hubs: Hubs) -> io::Result<Self> {
        let (first, _) = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        let path = path_for(*first)?;
        // Renamed into place, so that there is no moment without a socket.
        let new = path.with_extension(std::process::id().to_string());
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&new, &path)?;
        let inode = std::fs::metadata(&path)?.ino();
        Ok(Self { path, listener, sockets, hubs, inode, owns_path: true })
    }

    /// Waits for a successor that confirms. A failed takeover is logged, and the gateway continues.
    pub(super) async fn wait_for_successor(mut self) {
        // A connection without a request blocks no other.
        let mut silent = JoinSet::new();
        loop {
            let requested = tokio::select! {
                accepted = self.listener.accept(), if silent.len() < MAX_SILENT => {
                    match accepted {
                        Ok((stream, _)) => drop(silent.spawn_local(take_request(stream))),
                        Err(error) => {
                            tracing::warn!(%error, "{FAILED}");
                            time::sleep(Duration::from_millis(100)).await;
                        }
                    }
                    continue;
                }
                Some(requested) = silent.join_next() => requested.map_err(io::Error::other),
            };
            let handed_over = match requested.flatten() {
                Ok(stream) => self.serve(stream).await,
                Err(error) => Err(error),
            };
            match handed_over {
                Ok(()) => {
                    self.owns_path = false;
                    return;
                }
                Err(error) => tracing::warn!(%error, "{FAILED}"),
            }
        }
    }

    async fn serve(&self, mut stream: BufReader<UnixStream>) -> io::Result<()> {
        let socket = stream.get_ref();
        socket.async_io(Interest::WRITABLE, || self.send_sockets(socket)).await?;
        tracing::info!("takeover: passed the listening sockets to another gateway");
        loop {
            let line = time::timeout(START_TIMEOUT, read_line(&mut stream)).await??;
            let line = line.ok_or_else(closed)?;
            if line == ACCEPTING {
                break;
            }
            let (hub, max_bytes) = self.requested(&line).ok_or_else(other_version)?;
            // A successor that no longer wants the histories still reads them to the end.
            time::timeout(START_TIMEOUT, send_histories(hub, &mut stream, max_bytes)).await??;
        }
        // An error does not matter: the successor serves without this confirmation.
        drop(stream.write_all(LEAVING.as_bytes()).await);
        Ok(())
    }

    /// The hub whose histories a successor requests, and the most bytes of them.
    fn requested(&self, line: &str) -> Option<(&Hub, usize)> {
        let mut words = line.strip_prefix(HISTORIES)?.split_whitespace();
        let max_bytes = words.next()?.parse().ok()?;
        let hub = match words.next() {
            None => self.hubs.first(),
            Some(name) => self.hubs.further().find(|(known, _)| *known == name)?.1,
        };
        Some((hub, max_bytes))
    }

    fn send_sockets(&self, stream: &UnixStream) -> io::Result<()> {
        let addresses = self.sockets.iter().map(|(address, _)| *address).collect();
        let further = self.hubs.further();
        let further = further.map(|(name, hub)| (name.to_owned(), hub.newest_number()));
        let newest = self.hubs.first().newest_number();
        let servers = places(self.hubs.servers().map(|server| (server.name, server.place)));
        let passed = Passed { addresses, newest, further: further.collect(), servers };
        let line = serde_json::to_string(&passed)? + "\n";
        let descriptors: Vec<_> = self.sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        let parts = [IoSlice::new(line.as_bytes())];
        let sent = rustix::net::sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL)?;
        if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl Drop for TakeoverSocket {
    /// Removes the socket file, unless a successor has replaced it.
    fn drop(&mut self) {
        let file = std::fs::metadata(&self.path);
        if self.owns_path
            && file.is_ok_and(|file| file.ino() == self.inode)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::debug!(%error, %path, "cannot remove the takeover socket");
        }
    }
}

async fn send_histories(
    hub: &Hub,
    stream: &mut BufReader<UnixStream>,
    max_bytes: usize,
) -> io::Result<()> {
    let snapshot = hub.snapshot(max_bytes);
    if snapshot.left_out() > 0 {
        let (channels, left_out) = (snapshot.channels(), snapshot.left_out());
        tracing::warn!(channels, left_out, "{NO_ROOM}");
    }
    // On another thread: encoding large histories takes a while, and this thread runs the source.
    let bytes = spawn_blocking(move || {
        let mut bytes = Vec::new();
        snapshot.write(Instant::now(), &mut bytes).map(|()| bytes)
    });
    let bytes = bytes.await??;
    stream.write_all(format!("{}\n", bytes.len()).as_bytes()).await?;
    stream.write_all(&bytes).await
}

/// Reads the request of a successor, which must be of this user.
async fn take_request(stream: UnixStream) -> io::Result<BufReader<UnixStream>> {
    let peer = stream.peer_cred()?.uid();
    if peer != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("requested by another user: uid {peer}")));
    }
    let mut stream = BufReader::new(stream);
    expect(&mut stream, REQUEST, LINE_TIMEOUT).await?;
    Ok(stream)
}
