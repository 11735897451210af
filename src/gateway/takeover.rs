//! A gateway takes over from another: the same sockets, and no moment without one that accepts.
//!
//! The one that runs waits at a unix socket in its state directory, where only its own user gets
//! in. The new one asks, and is handed every listening socket (SCM_RIGHTS, unix(7)). It opens
//! everything else, serves, and only then says so; the old one then stops in good order. If the new
//! one fails before that, nothing has happened.
//!
//! ```text
//! new: ssegate takeover 1\n
//! old: ["127.0.0.1:8443", …]\n          the addresses, and with the first byte the sockets
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

const QUESTION: &str = "ssegate takeover 1\n";
const ACCEPTING: &str = "accepting\n";
const LEAVING: &str = "leaving\n";

/// Each side waits so long for a word of the other.
const PATIENCE: Duration = Duration::from_secs(10);
/// The new one may take so long until it accepts: it may have to wait for its source.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// For its source it waits no longer than this: streams are held open without it.
const SOURCE_PATIENCE: Duration = Duration::from_secs(5);
/// Sockets that one message can carry (`SCM_MAX_FD`).
const MAX_SOCKETS: usize = 253;
/// We start no program that could inherit them; where the system can say so, it is said.
#[cfg(target_os = "linux")]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();
/// A word, or a list of addresses, at most.
const MAX_LINE: u64 = 64 << 10;

/// Where a gateway whose first listener has this address, as it is written, can be asked.
fn path_for(address: SocketAddr) -> io::Result<PathBuf> {
    let nowhere = "nowhere to keep a socket: set HOME, XDG_STATE_HOME or STATE_DIRECTORY";
    let directory = state_dir::state_dir().ok_or_else(|| io::Error::other(nowhere))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    Ok(directory.join(format!("takeover-{address}.sock")))
}

/// The one that is taken over, as its successor knows it.
#[derive(Debug)]
pub(super) struct Predecessor(BlockingStream);

/// Asks the gateway that runs for its sockets.
pub(super) fn ask(address: SocketAddr) -> Result<(Inherited, Predecessor), Error> {
    let path = path_for(address).map_err(|cause| Error::Takeover { path: None, cause })?;
    exchange(&path).map_err(|cause| Error::Takeover { path: Some(path), cause })
}

fn exchange(path: &Path) -> io::Result<(Inherited, Predecessor)> {
    let mut stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(QUESTION.as_bytes())?;
    let (line, sockets) = receive(&stream)?;
    let addresses: Vec<SocketAddr> = serde_json::from_str(&line)?;
    if addresses.is_empty() || addresses.len() != sockets.len() {
        return Err(io::Error::other("it hands over no sockets, or not as many as it says"));
    }
    let mut inherited = Inherited::default();
    for (address, socket) in addresses.into_iter().zip(sockets) {
        inherited.add(address, TcpListener::from(socket)).map_err(io::Error::other)?;
    }
    Ok((inherited, Predecessor(stream)))
}

/// A line, and the descriptors that come with its beginning.
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
    /// Tells it to leave, as soon as the source listens; waits until it has heard. Then there is
    /// nobody else at the door.
    pub(super) async fn relieve(self, health: &Health) {
        let listens = async {
            while !health.is_source_ready() {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        if time::timeout(SOURCE_PATIENCE, listens).await.is_err() {
            tracing::warn!("Redis does not answer; taking over without it");
        }
        match self.say_accepting().await {
            Ok(()) => tracing::info!("the gateway that ran before is leaving"),
            Err(error) => tracing::warn!(%error, "the gateway that ran before does not answer"),
        }
    }

    async fn say_accepting(self) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(self.0)?;
        stream.write_all(ACCEPTING.as_bytes()).await?;
        expect(&mut stream, LEAVING, PATIENCE).await
    }
}

/// Where a successor asks.
#[derive(Debug)]
pub(super) struct Door {
    path: PathBuf,
    listener: UnixListener,
    sockets: Vec<(SocketAddr, TcpListener)>,
    // Until a successor has come.
    is_open: bool,
}

impl Door {
    /// Opens it, in place of one that is there: whoever opened that has left, or is leaving.
    pub(super) fn open(sockets: Vec<(SocketAddr, TcpListener)>) -> io::Result<Self> {
        let (first, _) = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
        let path = path_for(*first)?;
        // Put in its place when it is ready, so that there always is one.
        let new = path.with_extension(std::process::id().to_string());
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&new, &path)?;
        Ok(Self { path, listener, sockets, is_open: true })
    }

    /// Waits for a successor that accepts. The sockets are this one's no longer than that.
    pub(super) async fn relieved(mut self) {
        loop {
            let answered = match self.listener.accept().await {
                Ok((stream, _)) => self.answer(stream).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "a takeover has failed; this gateway goes on");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        self.is_open = false;
    }

    async fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?.uid();
        if peer != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("it was asked for by another user, {peer}")));
        }
        expect(&mut stream, QUESTION, PATIENCE).await?;
        stream.async_io(Interest::WRITABLE, || self.hand_over(&stream)).await?;
        tracing::info!("the sockets are handed over to another gateway");
        expect(&mut stream, ACCEPTING, START_PATIENCE).await?;
        // If it does not hear this, it goes on all the same.
        drop(stream.write_all(LEAVING.as_bytes()).await);
        Ok(())
    }

    fn hand_over(&self, stream: &UnixStream) -> io::Result<()> {
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

impl Drop for Door {
    /// Nobody can take over from a gateway that is stopping by itself. A successor puts its own door
    /// in place of this one.
    fn drop(&mut self) {
        if self.is_open
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "the socket for takeovers");
        }
    }
}

/// Reads a line, which must be this one.
async fn expect(stream: &mut UnixStream, word: &str, patience: Duration) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(stream.take(MAX_LINE));
    time::timeout(patience, reader.read_line(&mut line)).await??;
    match line.as_str() {
        said if said == word => Ok(()),
        "" => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has hung up")),
        _ => Err(io::Error::other("it speaks another language; is it of another version?")),
    }
}
