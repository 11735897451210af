//! The socket of a connection to Redis: TCP, TLS or Unix.
//!
//! The runtime is notified of all data that arrives at a registered socket, even if no task waits
//! for it: a sleeping thread is woken for each message. A deregistered socket wakes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use redis::ConnectionAddr;
use rustls::ClientConfig;
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::error::SourceError;
use crate::dial::{self, DialError, TcpTuning};
use crate::tls_client::{self, Trust};

/// Limits opening a connection: TCP, TLS, and the handshake with Redis.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that is silent, or does not acknowledge data, for this long is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

const TUNING: TcpTuning = TcpTuning {
    keep_alive: Some(TcpKeepalive::new().with_time(USER_TIMEOUT)),
    user_timeout: Some(USER_TIMEOUT),
    receive_buffer: None,
};

/// The TLS configuration, if the address requires TLS. Created once, because there are many system
/// root certificates.
#[derive(Clone, Debug)]
pub(crate) struct RedisTls(Option<Arc<ClientConfig>>);

impl RedisTls {
    /// What a connection to `address` needs.
    pub(super) fn new(address: &ConnectionAddr) -> Self {
        let ConnectionAddr::TcpTls { insecure, .. } = address else {
            return Self(None);
        };
        let trust =
            if *insecure { Trust::AnyCertificate } else { Trust::SystemRootsAnd(Vec::new()) };
        Self(Some(Arc::new(tls_client::client_config(trust))))
    }
}

/// A byte stream to Redis.
pub(super) trait RedisIo: AsyncRead + AsyncWrite + Unpin {
    /// Deregisters the socket from the runtime. It must not be read or written until it is
    /// registered again.
    fn deregister(&mut self) -> io::Result<()>;

    /// Registers the socket again. Data that has arrived meanwhile can be read at once.
    fn register(&mut self) -> io::Result<()>;
}

/// A socket of the runtime, and its type when it is deregistered.
trait RuntimeSocket: AsyncRead + AsyncWrite + Unpin + Sized {
    type Deregistered: Unpin;

    fn deregister(self) -> io::Result<Self::Deregistered>;
    fn register(socket: Self::Deregistered) -> io::Result<Self>;
}

impl RuntimeSocket for TcpStream {
    type Deregistered = std::net::TcpStream;

    fn deregister(self) -> io::Result<Self::Deregistered> {
        self.into_std()
    }

    fn register(socket: Self::Deregistered) -> io::Result<Self> {
        Self::from_std(socket)
    }
}

impl RuntimeSocket for UnixStream {
    type Deregistered = std::os::unix::net::UnixStream;

    fn deregister(self) -> io::Result<Self::Deregistered> {
        self.into_std()
    }

    fn register(socket: Self::Deregistered) -> io::Result<Self> {
        Self::from_std(socket)
    }
}

#[derive(Debug)]
enum RedisSocket<S: RuntimeSocket> {
    Registered(S),
    Deregistered(S::Deregistered),
    /// Registering or deregistering failed.
    Failed,
}

impl<S: RuntimeSocket> RedisSocket<S> {
    fn registered(&mut self) -> io::Result<Pin<&mut S>> {
        match self {
            Self::Registered(socket) => Ok(Pin::new(socket)),
            Self::Deregistered(_) | Self::Failed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Failed)
    }
}

impl<S: RuntimeSocket> RedisIo for RedisSocket<S> {
    fn deregister(&mut self) -> io::Result<()> {
        *self = match self.take() {
            Self::Registered(socket) => Self::Deregistered(socket.deregister()?),
            other => other,
        };
        Ok(())
    }

    fn register(&mut self) -> io::Result<()> {
        *self = match self.take() {
            Self::Deregistered(socket) => Self::Registered(S::register(socket)?),
            other => other,
        };
        Ok(())
    }
}

impl<S: RuntimeSocket> RedisIo for TlsStream<RedisSocket<S>> {
    fn deregister(&mut self) -> io::Result<()> {
        self.get_mut().0.deregister()
    }

    fn register(&mut self) -> io::Result<()> {
        self.get_mut().0.register()
    }
}

impl<S: RuntimeSocket> AsyncRead for RedisSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().registered()?.poll_read(cx, buf)
    }
}

impl<S: RuntimeSocket> AsyncWrite for RedisSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().registered()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().registered()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().registered()?.poll_shutdown(cx)
    }
}

/// Connects, and performs the TLS handshake if the address requires it.
pub(super) async fn connect(
    address: &ConnectionAddr,
    tls: &RedisTls,
    deadline: Instant,
) -> Result<Box<dyn RedisIo>, SourceError> {
    let limit = deadline.saturating_duration_since(Instant::now());
    match address {
        ConnectionAddr::Tcp(host, port) => Ok(Box::new(connect_tcp(host, *port, deadline).await?)),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let socket = connect_tcp(host, *port, deadline).await?;
            let resolve = || SourceError::Resolve(host.clone());
            let name = dial::server_name(host).ok_or_else(resolve)?;
            let config = tls.0.as_ref().ok_or_else(resolve)?;
            let stream = dial::tls(socket, config, name, deadline).await;
            Ok(Box::new(stream.map_err(|error| match error {
                DialError::TimedOut => {
                    SourceError::TlsTimeout((limit + Duration::from_millis(500)).as_secs())
                }
                error => source_error(host, error),
            })?))
        }
        ConnectionAddr::Unix(path) => {
            let socket = dial::unix(path, deadline).await;
            let socket = socket.map_err(|error| source_error(&path.to_string_lossy(), error))?;
            Ok(Box::new(RedisSocket::Registered(socket)))
        }
        other => Err(SourceError::Resolve(format!("{other}"))),
    }
}

async fn connect_tcp(
    host: &str,
    port: u16,
    deadline: Instant,
) -> Result<RedisSocket<TcpStream>, SourceError> {
    let socket = dial::tcp(host, port, &TUNING, deadline).await;
    socket.map(RedisSocket::Registered).map_err(|error| source_error(host, error))
}

fn source_error(host: &str, error: DialError) -> SourceError {
    match error {
        DialError::Resolve(error) => SourceError::Resolve(format!("{host}: {error}")),
        DialError::Connect(error) => SourceError::Connect(error),
        DialError::Handshake(error) => SourceError::Tls(error),
        DialError::TimedOut => SourceError::Timeout(CONNECT_TIMEOUT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream, UnixStream};
    use tokio::time::Instant;

    use super::{RedisIo, RedisSocket, RuntimeSocket};

    /// Returns how often a thread has blocked, as counted by Linux. `thread` is a folder of `/proc`.
    fn waits(thread: &Path) -> u64 {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }

    const MESSAGES: usize = 100;

    /// Writes message after message while this thread has nothing else to do; goes on after each when
    /// `until` returns true for how often this thread had blocked before. Returns how often this thread
    /// was woken.
    #[expect(clippy::disallowed_methods, reason = "sleeps on the writer's own thread")]
    async fn wakeups_by(
        peer: impl Write + Send + 'static,
        until: impl Fn(&Path, u64) -> bool + Send + 'static,
    ) -> u64 {
        let thread = Path::new("/proc").join(std::fs::read_link("/proc/thread-self").unwrap());
        let before = waits(&thread);
        let mut peer = peer;
        let reader = thread.clone();
        let writing = move || {
            let deadline = Instant::now() + Duration::from_secs(20);
            for _ in 0..MESSAGES {
                let before = waits(&reader);
                peer.write_all(b"x").unwrap();
                std::thread::sleep(Duration::from_millis(1));
                while !until(&reader, before) {
                    assert!(Instant::now() < deadline, "a message has not woken the thread");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        tokio::task::spawn_blocking(writing).await.unwrap();
        waits(&thread) - before
    }

    async fn is_not_woken_while_deregistered<S: RuntimeSocket>(
        socket: S,
        peers: [impl Write + Send + 'static; 2],
    ) {
        let mut socket = RedisSocket::Registered(socket);
        let [first, second] = peers;
        // Messages that arrive before the thread has blocked again wake it once. So each waits until the one
        // before has.
        let woken = wakeups_by(first, |thread, before| waits(thread) > before).await;
        assert!(woken >= MESSAGES as u64, "registered: woken {woken} times");

        socket.deregister().unwrap();
        socket.deregister().unwrap();
        assert!(socket.read_u8().await.is_err(), "a deregistered socket cannot be read");
        let woken = wakeups_by(second, |_, _| true).await;
        assert!(woken <= MESSAGES as u64 / 5, "deregistered: woken {woken} times");

        socket.register().unwrap();
        socket.register().unwrap();
        let mut received = vec![0; 2 * MESSAGES];
        socket.read_exact(&mut received).await.unwrap();
        assert_eq!(socket.read(&mut received).await.unwrap(), 0, "the end of the stream");
    }

    #[tokio::test]
    async fn a_deregistered_tcp_socket_wakes_nothing_and_loses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let socket: TcpStream = listener.accept().await.unwrap().0;
        is_not_woken_while_deregistered(socket, [peer.try_clone().unwrap(), peer]).await;
    }

    #[tokio::test]
    async fn a_deregistered_unix_socket_wakes_nothing_and_loses_nothing() {
        let (peer, socket) = std::os::unix::net::UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UnixStream::from_std(socket).unwrap();
        is_not_woken_while_deregistered(socket, [peer.try_clone().unwrap(), peer]).await;
    }
}
