//! Takeover: a new gateway process gets the listening sockets of the running one, so that no
//! connection is refused in between.
//!
//! The running gateway listens on a unix socket in its state directory, which only its own user can
//! connect to. The new one requests the sockets and receives all of them (`SCM_RIGHTS`, unix(7)).
//! It starts everything else, takes the histories, accepts connections, and only then confirms; the old one then
//! drains. If the new one fails before that, the old one continues.
//!
//! ```text
//! new: ssegate takeover 2\n
//! old: {"addresses":["127.0.0.1:8443"],"newest":17}\n     the sockets come with the first byte
//! new: histories\n                      once it hears the channels; again if it does not hear all yet
//! old: 1234\n                           so many bytes follow: a snapshot
//! new: accepting\n
//! old: leaving\n
//! ```

use std::io::{self, BufRead as _, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use ssegate_hub::{Continued, Hub, Snapshot};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_blocking;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::sockets::Inherited;
use super::{Error, state_file};
use crate::health::Health;
use crate::server::state_dir;

const REQUEST: &str = "ssegate takeover 2\n";
const HISTORIES: &str = "histories\n";
const ACCEPTING: &str = "accepting\n";
const LEAVING: &str = "leaving\n";

/// The timeout of each line of the exchange, except `accepting`.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of `accepting`: the new gateway first waits for its source.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the new gateway waits for its source. Without it streams stay open and quiet.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the new gateway asks for histories again until it hears all their channels.
const MEETING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it waits before it asks again.
const MEETING_PAUSE: Duration = Duration::from_millis(250);
/// Numbers that the old gateway may still give to messages until it is asked for its histories: those of the new
/// one begin behind them.
const NUMBERS_LEFT: u64 = 1 << 24;
/// The sockets that one message can carry (`SCM_MAX_FD`).
const MAX_SOCKETS: usize = 253;
/// The received sockets must not leak into child processes. The flag is Linux's; elsewhere it does
/// not matter, since the gateway spawns no processes.
#[cfg(target_os = "linux")]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();
/// The longest line of the exchange.
const MAX_LINE: u64 = 64 << 10;

/// The path of the takeover socket. It is named after the configured address of the first listener,
/// so that gateways with different configurations do not share it.
fn path_for(address: SocketAddr) -> io::Result<PathBuf> {
    let missing = "no state directory: set STATE_DIRECTORY, XDG_STATE_HOME or HOME";
    let directory = state_dir::state_dir().ok_or_else(|| io::Error::other(missing))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    Ok(directory.join(format!("takeover-{address}.sock")))
}

/// What comes with the sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    addresses: Vec<SocketAddr>,
    /// The newest number of the old gateway.
    newest: u64,
}

/// The successor's connection to the gateway that it takes over from.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: BlockingStream,
    /// The numbers of this gateway begin behind it.
    pub(super) begins_after: u64,
}

/// Requests the sockets of the running gateway. Blocks.
pub(super) fn request_sockets(address: SocketAddr) -> Result<(Inherited, Predecessor), Error> {
    let path = path_for(address).map_err(|cause| Error::Takeover { path: None, cause })?;
    exchange(&path).map_err(|cause| Error::Takeover { path: Some(path), cause })
}

fn exchange(path: &Path) -> io::Result<(Inherited, Predecessor)> {
    let mut stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(LINE_TIMEOUT))?;
    stream.set_write_timeout(Some(LINE_TIMEOUT))?;
    stream.write_all(REQUEST.as_bytes())?;
    let (line, sockets) = receive(&stream)?;
    let Passed { addresses, newest } = serde_json::from_str(&line)?;
    if addresses.is_empty() || addresses.len() != sockets.len() {
        return Err(io::Error::other("the running gateway sent no sockets, or not all of them"));
    }
    let mut inherited = Inherited::default();
    for (address, socket) in addresses.into_iter().zip(sockets) {
        inherited.add(address, TcpListener::from(socket)).map_err(io::Error::other)?;
    }
    Ok((inherited, Predecessor { stream, begins_after: newest.saturating_add(NUMBERS_LEFT) }))
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

impl Predecessor {
    /// Waits for the source, and takes the histories; then accepts connections, tells the predecessor so, and
    /// waits for its confirmation. After that the predecessor no longer serves its takeover socket.
    pub(super) async fn complete(self, health: &Health, hub: &Hub, may_accept: &CancellationToken) {
        let listens = async {
            while !(health.is_source_ready() && health.is_fleet_warm()) {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        if time::timeout(SOURCE_TIMEOUT, listens).await.is_err() {
            tracing::warn!("Redis does not respond; taking over without it");
        }
        match self.meet(hub, may_accept).await {
            Ok(()) => tracing::info!("takeover complete; the old gateway is draining"),
            Err(error) => {
                tracing::warn!(%error, "takeover: the old gateway does not confirm that it drains");
            }
        }
    }

    async fn meet(self, hub: &Hub, may_accept: &CancellationToken) -> io::Result<()> {
        // Whatever happens, this gateway accepts from here on.
        let accepting = may_accept.clone().drop_guard();
        self.stream.set_nonblocking(true)?;
        let mut stream = BufReader::new(UnixStream::from_std(self.stream)?);
        let taken = take_histories(&mut stream, hub).await;
        match &taken {
            Ok(channels) => tracing::info!(channels, "takeover: goes on with the histories"),
            Err(error) => tracing::warn!(%error, "takeover: goes on without the histories"),
        }
        drop(accepting);
        stream.write_all(ACCEPTING.as_bytes()).await?;
        expect(&mut stream, LEAVING, LINE_TIMEOUT).await
    }
}

/// Goes on with the histories of the old gateway. Returns the number of channels.
async fn take_histories(stream: &mut BufReader<UnixStream>, hub: &Hub) -> io::Result<usize> {
    let max_bytes = hub.handover_bytes();
    if max_bytes == 0 {
        return Ok(0);
    }
    let end = Instant::now() + MEETING_TIMEOUT;
    loop {
        let snapshot = request_histories(stream, state_file::max_snapshot(max_bytes)).await?;
        let is_last = Instant::now() >= end;
        match hub.take_over(&snapshot, is_last) {
            Continued::With(channels) => return Ok(channels),
            // What comes until this gateway follows the channels is a gap.
            Continued::NoFleet => return Ok(hub.restore(&snapshot)),
            Continued::TooLate => return Err(io::Error::other("clients are served already")),
            Continued::NotYet if is_last => {
                return Err(io::Error::other("it has heard no mark that this gateway has heard"));
            }
            Continued::NotYet => time::sleep(MEETING_PAUSE).await,
        }
    }
}

async fn request_histories(stream: &mut BufReader<UnixStream>, most: u64) -> io::Result<Snapshot> {
    let exchanged = async {
        stream.write_all(HISTORIES.as_bytes()).await?;
        let line = read_line(stream).await?;
        let length: u64 = line.trim_end().parse().map_err(|_| other_version())?;
        if length > most {
            return Err(io::Error::other(format!("they are larger than {} MiB", most >> 20)));
        }
        let mut bytes = Vec::new();
        stream.take(length).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let bytes = time::timeout(LINE_TIMEOUT, exchanged).await??;
    // Reading takes a while where they are large, and this thread has the source.
    let now = Instant::now();
    let read = move || Snapshot::read(&bytes, now).map_err(io::Error::other);
    spawn_blocking(read).await?
}

/// The unix socket at which a successor requests the listening sockets.
#[derive(Debug)]
pub(super) struct TakeoverSocket {
    path: PathBuf,
    listener: UnixListener,
    sockets: Vec<(SocketAddr, TcpListener)>,
    hub: Hub,
    // False once a successor has taken over: then the file is the successor's.
    owns_path: bool,
}

impl TakeoverSocket {
    /// Binds the socket, replacing that of a predecessor, which has ended or is draining.
    pub(super) fn open(sockets: Vec<(SocketAddr, TcpListener)>, hub: Hub) -> io::Result<Self> {
        let (first, _) = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        let path = path_for(*first)?;
        // Renamed into place, so that there is no moment without a socket.
        let new = path.with_extension(std::process::id().to_string());
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&new, &path)?;
        Ok(Self { path, listener, sockets, hub, owns_path: true })
    }

    /// Waits for a successor that confirms. A failed takeover is logged, and the gateway continues.
    pub(super) async fn wait_for_successor(mut self) {
        loop {
            let handed_over = match self.listener.accept().await {
                Ok((stream, _)) => self.serve(stream).await,
                Err(error) => Err(error),
            };
            match handed_over {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "a takeover has failed; this gateway continues");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        self.owns_path = false;
    }

    async fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?.uid();
        if peer != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("requested by another user: uid {peer}")));
        }
        let mut stream = BufReader::new(stream);
        expect(&mut stream, REQUEST, LINE_TIMEOUT).await?;
        let socket = stream.get_ref();
        socket.async_io(Interest::WRITABLE, || self.send_sockets(socket)).await?;
        tracing::info!("takeover: passed the listening sockets to another gateway");
        loop {
            match &*time::timeout(START_TIMEOUT, read_line(&mut stream)).await?? {
                HISTORIES => {
                    time::timeout(LINE_TIMEOUT, self.send_histories(&mut stream)).await??
                }
                ACCEPTING => break,
                "" => return Err(closed()),
                _ => return Err(other_version()),
            }
        }
        // An error does not matter: the successor serves without this confirmation.
        drop(stream.write_all(LEAVING.as_bytes()).await);
        Ok(())
    }

    async fn send_histories(&self, stream: &mut BufReader<UnixStream>) -> io::Result<()> {
        let snapshot = self.hub.snapshot();
        // Writing takes a while where they are large, and this thread has the source.
        let bytes = spawn_blocking(move || {
            let mut bytes = Vec::new();
            snapshot.write(Instant::now(), &mut bytes).map(|()| bytes)
        });
        let bytes = bytes.await??;
        stream.write_all(format!("{}\n", bytes.len()).as_bytes()).await?;
        stream.write_all(&bytes).await
    }

    fn send_sockets(&self, stream: &UnixStream) -> io::Result<()> {
        let addresses = self.sockets.iter().map(|(address, _)| *address).collect();
        let passed = Passed { addresses, newest: self.hub.newest_number() };
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
    /// Removes the socket file if the gateway ends without a successor. A successor replaces the
    /// file.
    fn drop(&mut self) {
        if self.owns_path
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::debug!(%error, %path, "cannot remove the takeover socket");
        }
    }
}

/// Reads a line, which has to be `expected`.
async fn expect(
    stream: &mut BufReader<UnixStream>,
    expected: &str,
    timeout: Duration,
) -> io::Result<()> {
    match &*time::timeout(timeout, read_line(stream)).await?? {
        line if line == expected => Ok(()),
        "" => Err(closed()),
        _ => Err(other_version()),
    }
}

/// Reads a line, with its end; an empty one at the end of the connection.
async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.take(MAX_LINE).read_line(&mut line).await?;
    Ok(line)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")
}

fn other_version() -> io::Error {
    io::Error::other("unexpected message: is the other gateway of another version?")
}
