//! The socket below a connection to Redis: TCP, TLS or unix; opened, and put to rest for a moment.
//!
//! The runtime hears of whatever arrives at a socket, also while nobody waits for it: a thread that
//! sleeps is woken for each message. A socket at rest is taken out of its sight.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use redis::ConnectionAddr;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::CONNECT_TIMEOUT;
use super::error::SourceError;
use crate::tls_client::{self, Trust};

/// Unacknowledged data for so long ends the connection, as does a silent peer.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom we trust where the address says TLS. Made once: the system's roots are many.
#[derive(Clone, Debug)]
pub(super) struct Tls(Option<Arc<ClientConfig>>);

impl Tls {
    pub(super) fn new(address: &ConnectionAddr) -> Self {
        let ConnectionAddr::TcpTls { insecure, .. } = address else {
            return Self(None);
        };
        let trust =
            if *insecure { Trust::AnyCertificate } else { Trust::SystemRootsAnd(Vec::new()) };
        Self(Some(Arc::new(tls_client::client_config(trust))))
    }
}

/// Any byte stream to Redis.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Hears nothing from now on; it is not to be read or written until it is watched again.
    fn rest(&mut self) -> io::Result<()>;

    /// Hears again, and at once what has arrived since.
    fn watch(&mut self) -> io::Result<()>;
}

/// A socket that the runtime can watch, and what it is when it does not.
trait Watchable: AsyncRead + AsyncWrite + Unpin + Sized {
    type Unwatched: Unpin;

    fn unwatched(self) -> io::Result<Self::Unwatched>;
    fn watched(socket: Self::Unwatched) -> io::Result<Self>;
}

impl Watchable for TcpStream {
    type Unwatched = std::net::TcpStream;

    fn unwatched(self) -> io::Result<Self::Unwatched> {
        self.into_std()
    }

    fn watched(socket: Self::Unwatched) -> io::Result<Self> {
        Self::from_std(socket)
    }
}

impl Watchable for UnixStream {
    type Unwatched = std::os::unix::net::UnixStream;

    fn unwatched(self) -> io::Result<Self::Unwatched> {
        self.into_std()
    }

    fn watched(socket: Self::Unwatched) -> io::Result<Self> {
        Self::from_std(socket)
    }
}

#[derive(Debug)]
enum Socket<S: Watchable> {
    Watched(S),
    AtRest(S::Unwatched),
    /// It could not be changed from one into the other.
    Lost,
}

impl<S: Watchable> Socket<S> {
    fn watched(&mut self) -> io::Result<Pin<&mut S>> {
        match self {
            Self::Watched(socket) => Ok(Pin::new(socket)),
            Self::AtRest(_) | Self::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Lost)
    }
}

impl<S: Watchable> Stream for Socket<S> {
    fn rest(&mut self) -> io::Result<()> {
        *self = match self.take() {
            Self::Watched(socket) => Self::AtRest(socket.unwatched()?),
            other => other,
        };
        Ok(())
    }

    fn watch(&mut self) -> io::Result<()> {
        *self = match self.take() {
            Self::AtRest(socket) => Self::Watched(S::watched(socket)?),
            other => other,
        };
        Ok(())
    }
}

impl<S: Watchable> Stream for TlsStream<Socket<S>> {
    fn rest(&mut self) -> io::Result<()> {
        self.get_mut().0.rest()
    }

    fn watch(&mut self) -> io::Result<()> {
        self.get_mut().0.watch()
    }
}

impl<S: Watchable> AsyncRead for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().watched()?.poll_read(cx, buf)
    }
}

impl<S: Watchable> AsyncWrite for Socket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().watched()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().watched()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().watched()?.poll_shutdown(cx)
    }
}

/// Connects, and shakes hands where the address says TLS.
pub(super) async fn connect(
    address: &ConnectionAddr,
    tls: &Tls,
) -> Result<Box<dyn Stream>, SourceError> {
    match address {
        ConnectionAddr::Tcp(host, port) => {
            Ok(Box::new(Socket::Watched(connect_tcp(host, *port).await?)))
        }
        ConnectionAddr::TcpTls { host, port, .. } => {
            let socket = Socket::Watched(connect_tcp(host, *port).await?);
            let name = ServerName::try_from(host.clone())
                .map_err(|_invalid| SourceError::Resolve(host.clone()))?;
            let config = tls.0.clone().ok_or_else(|| SourceError::Resolve(host.clone()))?;
            let connector = TlsConnector::from(config);
            Ok(Box::new(connector.connect(name, socket).await.map_err(SourceError::Tls)?))
        }
        ConnectionAddr::Unix(path) => {
            let socket = UnixStream::connect(path).await.map_err(SourceError::Connect)?;
            Ok(Box::new(Socket::Watched(socket)))
        }
        other => Err(SourceError::Resolve(format!("{other}"))),
    }
}

/// Resolves anew each time: an address behind a name may have changed. Each of several addresses has
/// its share of the time, so that one that does not answer does not hide the others.
async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, SourceError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| SourceError::Resolve(format!("{host}: {error}")))?
        .collect();
    let share = CONNECT_TIMEOUT / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut failure = SourceError::Resolve(host.into());
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream).map_err(SourceError::Connect)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = SourceError::Connect(error),
            Err(_elapsed) => failure = SourceError::Timeout(CONNECT_TIMEOUT.as_secs()),
        }
    }
    Err(failure)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(USER_TIMEOUT))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::{Socket, Stream, Watchable};

    /// How often this thread has waited, as Linux counts it.
    fn waits() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }

    const MESSAGES: usize = 100;

    /// Somebody writes message after message, and this thread has nothing else to wake for.
    #[expect(clippy::disallowed_methods, reason = "the thread that sleeps is the writer's own")]
    async fn be_written_to(peer: impl Write + Send + 'static) -> u64 {
        let before = waits();
        let mut peer = peer;
        let writing = move || {
            for _ in 0..MESSAGES {
                peer.write_all(b"x").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        tokio::task::spawn_blocking(writing).await.unwrap();
        waits() - before
    }

    async fn hears_nothing_at_rest<S: Watchable>(
        socket: S,
        peers: [impl Write + Send + 'static; 2],
    ) {
        let mut socket = Socket::Watched(socket);
        let [first, second] = peers;
        let woken = be_written_to(first).await;
        assert!(woken >= MESSAGES as u64 / 2, "watched, it was woken {woken} times");

        socket.rest().unwrap();
        socket.rest().unwrap();
        assert!(socket.read_u8().await.is_err(), "it is not to be read");
        let woken = be_written_to(second).await;
        assert!(woken <= MESSAGES as u64 / 5, "at rest, it was woken {woken} times");

        socket.watch().unwrap();
        socket.watch().unwrap();
        let mut heard = vec![0; 2 * MESSAGES];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(socket.read(&mut heard).await.unwrap(), 0, "and the end of it");
    }

    #[tokio::test]
    async fn a_socket_at_rest_wakes_nobody_and_loses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let socket: TcpStream = listener.accept().await.unwrap().0;
        hears_nothing_at_rest(socket, [peer.try_clone().unwrap(), peer]).await;
    }

    #[tokio::test]
    async fn so_does_a_unix_socket() {
        let (peer, socket) = std::os::unix::net::UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UnixStream::from_std(socket).unwrap();
        hears_nothing_at_rest(socket, [peer.try_clone().unwrap(), peer]).await;
    }
}
