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
//! old: {"addresses":["127.0.0.1:8443"],"newest":17,"further":{"orders":5},"servers":{"url":"…","orders":"…"}}\n
//!                                        the sockets come with the first byte
//! new: histories 67108864\n             the most bytes, once it is subscribed; again if not to all channels yet
//! old: 1234\n                           the length of the snapshot that follows
//! new: histories 67108864 orders\n      those of a further server that both have, by its name
//! old: 123\n
//! new: accepting\n
//! old: leaving\n
//! ```

mod old_servers;
mod predecessor;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time;
use tokio_util::sync::CancellationToken;

pub(super) use self::predecessor::{ConnectedPredecessor, Predecessor, request_sockets};
use self::socket::TakeoverSocket;
use super::hubs::Hubs;
use crate::health::Health;
use crate::server::state_dir;

const REQUEST: &str = "ssegate takeover 2\n";
const HISTORIES: &str = "histories ";
const ACCEPTING: &str = "accepting\n";
const LEAVING: &str = "leaving\n";

/// The timeout of each line of the exchange, except `accepting`.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of the requests after the new gateway has its source, and of sending histories.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The sockets that one message can carry (`SCM_MAX_FD`).
const MAX_SOCKETS: usize = 253;
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

/// The line that comes with the sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    addresses: Vec<SocketAddr>,
    /// The newest number of the old gateway, at its first server.
    newest: u64,
    /// The same at each further server, by its name. A gateway that does not send it hands over no histories of
    /// these.
    #[serde(default)]
    further: BTreeMap<String, u64>,
    /// Where all of its servers are, the first one too, by their names: a digest of each URL without user and password.
    #[serde(default)]
    servers: BTreeMap<String, String>,
}

/// Completes a takeover from a predecessor, if there is one; then waits for a successor.
pub(super) async fn run_takeovers(
    predecessor: Option<ConnectedPredecessor>,
    sockets: Vec<(SocketAddr, std::net::TcpListener)>,
    (health, hubs, may_accept): (Health, Hubs, CancellationToken),
) {
    if let Some(predecessor) = predecessor {
        predecessor.complete(&health, &hubs, &may_accept).await;
    }
    match TakeoverSocket::open(sockets, hubs) {
        Ok(socket) => socket.wait_for_successor().await,
        Err(error) => {
            tracing::info!(%error, "takeover is not available: cannot open its socket");
            std::future::pending().await
        }
    }
}

/// Reads a line, which has to be `expected`.
async fn expect(
    stream: &mut BufReader<UnixStream>,
    expected: &str,
    timeout: Duration,
) -> io::Result<()> {
    match time::timeout(timeout, read_line(stream)).await?? {
        Some(line) if line == expected => Ok(()),
        Some(_) => Err(other_version()),
        None => Err(closed()),
    }
}

/// Reads a line with its newline, or the beginning of one that is too long; `None` at the end of the connection.
async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut line).await?;
    let text = String::from_utf8_lossy(&line).into_owned();
    Ok((!line.is_empty()).then_some(text))
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")
}

fn other_version() -> io::Error {
    io::Error::other("unexpected message: is the other gateway of another version?")
}
