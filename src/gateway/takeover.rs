//! Takeover: a new gateway process gets the listening sockets of the running one, so that no
//! connection is refused in between.
//!
//! The running gateway listens on a unix socket in its state directory, which only its own user can
//! connect to. The new one requests the sockets and receives all of them (`SCM_RIGHTS`, unix(7)).
//! It starts everything else, accepts connections, and only then confirms; the old one then drains.
//! If the new one fails before that, the old one continues.
//!
//! ```text
//! new: ssegate takeover 1\n
//! old: ["127.0.0.1:8443", …]\n          the addresses; the sockets come with the first byte
//! new: accepting\n
//! old: leaving\n
//! ```

use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Read as _, Write as _};
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
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time;

use super::Error;
use super::sockets::Inherited;
use crate::health::Health;
use crate::server::state_dir;

const REQUEST: &str = "ssegate takeover 1\n";
const ACCEPTING: &str = "accepting\n";
const LEAVING: &str = "leaving\n";

/// The timeout of each line of the exchange, except `accepting`.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of `accepting`: the new gateway first waits for its source.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the new gateway waits for its source. Without it streams stay open and quiet.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(5);
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

/// The successor's connection to the gateway that it takes over from.
#[derive(Debug)]
pub(super) struct Predecessor(BlockingStream);

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
    let addresses: Vec<SocketAddr> = serde_json::from_str(&line)?;
    if addresses.is_empty() || addresses.len() != sockets.len() {
        return Err(io::Error::other("the running gateway sent no sockets, or not all of them"));
    }
    let mut inherited = Inherited::default();
    for (address, socket) in addresses.into_iter().zip(sockets) {
        inherited.add(address, TcpListener::from(socket)).map_err(io::Error::other)?;
    }
    Ok((inherited, Predecessor(stream)))
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
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    Ok((line, sockets))
}

impl Predecessor {
    /// Waits for the source, then tells the predecessor that this gateway accepts, and waits for
    /// its confirmation. After that the predecessor no longer serves its takeover socket.
    pub(super) async fn complete(self, health: &Health) {
        let listens = async {
            while !(health.is_source_ready() && health.is_fleet_warm()) {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        if time::timeout(SOURCE_TIMEOUT, listens).await.is_err() {
            tracing::warn!("Redis does not respond; taking over without it");
        }
        match self.confirm().await {
            Ok(()) => tracing::info!("takeover complete; the old gateway is draining"),
            Err(error) => {
                tracing::warn!(%error, "takeover: the old gateway does not confirm that it drains");
            }
        }
    }

    async fn confirm(self) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(self.0)?;
        stream.write_all(ACCEPTING.as_bytes()).await?;
        expect(&mut stream, LEAVING, LINE_TIMEOUT).await
    }
}

/// The unix socket at which a successor requests the listening sockets.
#[derive(Debug)]
pub(super) struct TakeoverSocket {
    path: PathBuf,
    listener: UnixListener,
    sockets: Vec<(SocketAddr, TcpListener)>,
    // False once a successor has taken over: then the file is the successor's.
    owns_path: bool,
}

impl TakeoverSocket {
    /// Binds the socket, replacing that of a predecessor, which has ended or is draining.
    pub(super) fn open(sockets: Vec<(SocketAddr, TcpListener)>) -> io::Result<Self> {
        let (first, _) = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        let path = path_for(*first)?;
        // Renamed into place, so that there is no moment without a socket.
        let new = path.with_extension(std::process::id().to_string());
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&new, &path)?;
        Ok(Self { path, listener, sockets, owns_path: true })
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

    async fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?.uid();
        if peer != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("requested by another user: uid {peer}")));
        }
        expect(&mut stream, REQUEST, LINE_TIMEOUT).await?;
        stream.async_io(Interest::WRITABLE, || self.send_sockets(&stream)).await?;
        tracing::info!("takeover: passed the listening sockets to another gateway");
        expect(&mut stream, ACCEPTING, START_TIMEOUT).await?;
        // An error does not matter: the successor serves without this confirmation.
        drop(stream.write_all(LEAVING.as_bytes()).await);
        Ok(())
    }

    fn send_sockets(&self, stream: &UnixStream) -> io::Result<()> {
        let addresses: Vec<_> = self.sockets.iter().map(|(address, _)| address).collect();
        let line = serde_json::to_string(&addresses)? + "\n";
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
async fn expect(stream: &mut UnixStream, expected: &str, timeout: Duration) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(stream.take(MAX_LINE));
    time::timeout(timeout, reader.read_line(&mut line)).await??;
    match line.as_str() {
        line if line == expected => Ok(()),
        "" => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")),
        _ => Err(io::Error::other("unexpected message: is the other gateway of another version?")),
    }
}
