//! Accepts connections and owns their sessions. Does not know commands.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::session::serve_connection;
use super::warning::BusWarning;

/// TCP keep-alive time, after which a dead peer is detected: the default `tcp-keepalive` of Redis.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// The pause after a failed accept, for example when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the memory of streams that have expired is freed, even if nobody uses a stream. Nobody sees an
/// expired one in between.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Serves the bus on `listener` until `stop` is cancelled and all sessions have ended.
///
/// Runs in a tokio `LocalRuntime` (or `LocalSet`): the sessions are local tasks, owned by this
/// future, and end with it. A failed connection never stops the listener.
pub async fn serve(listener: TcpListener, broker: Broker, stop: CancellationToken) {
    let mut sessions = JoinSet::new();
    let mut sweep = time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => log_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if sessions.len() < broker.settings().max_sessions => {
                    sessions.spawn_local(run(stream, peer, broker.clone(), stop.clone()));
                }
                Ok((stream, peer)) => refuse(stream, peer, &broker),
                Err(error) => pause(error, &broker).await,
            },
            _ = sweep.tick() => broker.sweep_streams(),
        }
    }
    while let Some(ended) = sessions.join_next().await {
        log_panic(ended);
    }
}

async fn run(mut stream: TcpStream, peer: SocketAddr, broker: Broker, stop: CancellationToken) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%peer, %error, "embedded bus: cannot set socket options");
    }
    let (reader, writer) = stream.split();
    serve_connection(reader, writer, peer, broker, stop).await;
}

/// Disables Nagle's algorithm, so that messages are sent at once, and enables keep-alive, so that a
/// dead peer does not count towards `max_sessions` for ever.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))
}

/// Sends the error that Redis would send, if the socket accepts it at once.
fn refuse(stream: TcpStream, peer: SocketAddr, broker: &Broker) {
    broker.counters().session_refused();
    broker.warn(BusWarning::TooManySessions, |held_back| {
        let most = broker.settings().max_sessions;
        const MESSAGE: &str = "embedded bus: connection refused: too many connections";
        tracing::warn!(%peer, most, held_back, "{MESSAGE}");
    });
    let told = stream.try_write(b"-ERR max number of clients reached\r\n");
    tracing::trace!(?told, "refusal");
}

async fn pause(error: io::Error, broker: &Broker) {
    broker.warn(BusWarning::Accept, |held_back| {
        tracing::warn!(%error, held_back, "embedded bus: accept failed");
    });
    time::sleep(ACCEPT_PAUSE).await;
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "embedded bus: a session panicked");
    }
}
