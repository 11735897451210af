//! A TCP relay that can fall silent (a path on which nothing arrives and nothing is refused), or be
//! slow.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Relays to one address. Dropped, it closes everything.
pub(crate) struct Relay {
    address: SocketAddr,
    /// Connections accepted before this number carry nothing any more.
    silent_below: watch::Sender<usize>,
    accepted: watch::Receiver<usize>,
    slowness: watch::Sender<Option<Slowness>>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

/// How slow a path is.
#[derive(Clone, Copy)]
pub(crate) struct Slowness {
    /// What every piece waits for, in each direction.
    pub(crate) latency: Duration,
    /// Bytes that pass in a second, in each direction.
    pub(crate) bytes_per_second: u32,
}

impl Relay {
    /// Listens on a port of its own.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent_below, silence) = watch::channel(0);
        let (count, accepted) = watch::channel(0);
        let (slowness, slow) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let number = *count.borrow();
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                let (silence, slow) = (&silence, &slow);
                connections.spawn(copy(near_in, far_out, number, silence.clone(), slow.clone()));
                connections.spawn(copy(far_in, near_out, number, silence.clone(), slow.clone()));
                count.send_replace(number + 1);
            }
        });
        let task = tokio_util::task::AbortOnDropHandle::new(task);
        Self { address, silent_below, accepted, slowness, _task: task }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets all connections that are open now carry nothing any more, without a word to either end.
    pub(crate) fn stall(&self) {
        self.silent_below.send_replace(self.accepted());
    }

    /// Makes the path slow from now on, or as fast as it was.
    pub(crate) fn slow_down(&self, slowness: Option<Slowness>) {
        self.slowness.send_replace(slowness);
    }

    /// How many connections were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: usize,
    mut silent_below: watch::Receiver<usize>,
    slow: watch::Receiver<Option<Slowness>>,
) {
    let mut buffer = vec![0; 16 << 10];
    let (sender, mut on_the_way) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(64);
    let carry = async {
        let read = async move {
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                let latency = slow.borrow().map_or(Duration::ZERO, |slowness| slowness.latency);
                let piece = (Instant::now() + latency, buffer[..read].to_vec());
                if sender.send(piece).await.is_err() {
                    return;
                }
                let slowness = *slow.borrow();
                if let Some(Slowness { bytes_per_second, .. }) = slowness {
                    let bytes = u32::try_from(read).unwrap();
                    tokio::time::sleep(Duration::from_secs(1) * bytes / bytes_per_second).await;
                }
            }
        };
        let write = async {
            while let Some((due, piece)) = on_the_way.recv().await {
                tokio::time::sleep_until(due).await;
                if to.write_all(&piece).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(read, write);
    };
    let is_silent = async { silent_below.wait_for(|below| number < *below).await.is_ok() };
    tokio::select! {
        () = carry => {}
        true = is_silent => std::future::pending().await,
    }
}
