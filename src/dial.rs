//! Outgoing connections: resolves the name, connects, and performs the TLS handshake, by a deadline.
//!
//! Used for backends, for Redis and by the commands. [`tls_client`](crate::tls_client) decides which certificates a
//! TLS client trusts. Knows nothing of what is sent over the connection, and does not retry.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The least time that an address gets to accept. Linux sends the SYN again after one second: a single
/// one that is lost must not lose the address.
const MIN_SHARE: Duration = Duration::from_millis(1500);

/// Options of a TCP socket, besides `TCP_NODELAY`, which is always set: events and requests are sent at once.
#[derive(Clone, Debug, Default)]
pub struct TcpTuning {
    /// When a silent connection is probed, and how often.
    pub keep_alive: Option<TcpKeepalive>,
    /// `TCP_USER_TIMEOUT` (RFC 5482): the connection fails when sent data was not acknowledged for so
    /// long. On Linux only.
    pub user_timeout: Option<Duration>,
    /// `SO_RCVBUF`, in bytes. An optimization only: a failure to set it is ignored.
    pub receive_buffer: Option<usize>,
}

/// Which step of connecting failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name does not resolve.
    #[error(transparent)]
    Resolve(io::Error),
    /// No address accepts: the error of the last one.
    #[error(transparent)]
    Connect(io::Error),
    /// The TLS handshake failed.
    #[error(transparent)]
    Handshake(io::Error),
    /// The deadline has passed.
    #[error("timed out")]
    TimedOut,
}

/// Connects to the first address of `host` that accepts.
///
/// `host` is a name or an IP address, an IPv6 one with or without brackets. The name is resolved each
/// time, because its addresses may have changed. An address that does not respond does not hide the
/// others: each gets an equal share of the time that is left, but at least [`MIN_SHARE`], and the last
/// one all of it.
///
/// # Errors
/// The name does not resolve, no address accepts, or `deadline` passes.
pub async fn tcp(
    host: &str,
    port: u16,
    tuning: &TcpTuning,
    deadline: Instant,
) -> Result<TcpStream, DialError> {
    let lookup = timeout_at(deadline, tokio::net::lookup_host((without_brackets(host), port)));
    let addresses = lookup.await.map_err(|_elapsed| DialError::TimedOut)?;
    let addresses: Vec<_> = addresses.map_err(DialError::Resolve)?.collect();
    first_to_accept(&addresses, TcpStream::connect, deadline).await.and_then(|stream| {
        tuning.apply(&stream).map_err(DialError::Connect)?;
        Ok(stream)
    })
}

/// Connects to the socket at `path`.
///
/// # Errors
/// Nothing listens there, or `deadline` passes.
pub async fn unix(path: &Path, deadline: Instant) -> Result<UnixStream, DialError> {
    let connected = timeout_at(deadline, UnixStream::connect(path)).await;
    connected.map_err(|_elapsed| DialError::TimedOut)?.map_err(DialError::Connect)
}

/// Performs the TLS handshake with the server called `name`.
///
/// # Errors
/// The handshake fails, such as by a certificate that is not trusted, or `deadline` passes.
pub async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    deadline: Instant,
) -> Result<TlsStream<S>, DialError> {
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    let finished = timeout_at(deadline, handshake).await;
    finished.map_err(|_elapsed| DialError::TimedOut)?.map_err(DialError::Handshake)
}

/// The name that the certificate of a server at `host` has to have: a DNS name or an IP address.
/// `None` if `host` is neither.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(without_brackets(host).to_owned()).ok()
}

fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Tries one address after the other. Returns the error of the last one if all fail.
async fn first_to_accept<A: Copy, S, F: Future<Output = io::Result<S>>>(
    addresses: &[A],
    connect: impl Fn(A) -> F,
    deadline: Instant,
) -> Result<S, DialError> {
    let none = io::Error::new(io::ErrorKind::InvalidInput, "the name has no addresses");
    let mut failure = DialError::Resolve(none);
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        if tried > 0 && now >= deadline {
            return Err(DialError::TimedOut);
        }
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(now) / left;
        let until = deadline.min(now + share.max(MIN_SHARE));
        match timeout_at(until, connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = DialError::Connect(error),
            Err(_elapsed) => failure = DialError::TimedOut,
        }
    }
    Err(failure)
}

impl TcpTuning {
    fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        if let Some(keep_alive) = &self.keep_alive {
            socket.set_tcp_keepalive(keep_alive)?;
        }
        #[cfg(target_os = "linux")]
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        if let Some(bytes) = self.receive_buffer {
            drop(socket.set_recv_buffer_size(bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::{DialError, TcpTuning, first_to_accept, server_name, tcp};

    /// An address that accepts, refuses, or does not respond.
    #[derive(Clone, Copy)]
    enum Host {
        Accepts,
        Refuses,
        Silent,
    }

    /// Returns what happened, and after how many milliseconds.
    async fn dial(hosts: &[Host]) -> (&'static str, u128) {
        let connect = async |host| match host {
            Host::Accepts => Ok(()),
            Host::Refuses => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            Host::Silent => pending().await,
        };
        let start = Instant::now();
        let what = match first_to_accept(hosts, connect, start + Duration::from_secs(3)).await {
            Ok(()) => "accepted",
            Err(DialError::Connect(_)) => "refused",
            Err(DialError::TimedOut) => "timed out",
            Err(DialError::Resolve(_) | DialError::Handshake(_)) => "no address",
        };
        (what, start.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_respond_does_not_hide_the_others() {
        use Host::{Accepts, Refuses, Silent};
        assert_eq!(dial(&[Silent, Accepts]).await, ("accepted", 1500));
        assert_eq!(dial(&[Silent, Silent, Accepts]).await, ("timed out", 3000), "3 s are for two");
        assert_eq!(dial(&[Refuses, Silent, Accepts]).await, ("accepted", 1500));
        assert_eq!(dial(&[Silent]).await, ("timed out", 3000));
        assert_eq!(dial(&[Refuses, Silent]).await, ("timed out", 3000));
        assert_eq!(dial(&[Silent, Refuses]).await, ("refused", 1500));
        assert_eq!(dial(&[]).await, ("no address", 0));
    }

    #[tokio::test]
    async fn a_host_is_a_name_or_an_address_with_or_without_brackets() {
        let listener = TcpListener::bind("[::1]:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let deadline = Instant::now() + Duration::from_secs(10);
        for host in ["::1", "[::1]"] {
            let stream = tcp(host, port, &TcpTuning::default(), deadline).await.expect(host);
            assert!(stream.nodelay().expect("an option"), "{host}");
            assert_eq!(server_name(host), server_name("::1"), "{host}");
        }
        assert!(server_name("example.org").is_some());
        assert!(server_name("not a name").is_none());
        let error = tcp("no\0name", port, &TcpTuning::default(), deadline).await;
        assert!(matches!(error, Err(DialError::Resolve(_))), "{error:?}");
    }
}
