//! A TCP relay that can fall silent: a path on which nothing arrives and nothing is refused.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Relays to one address. Dropped, it closes everything.
pub(crate) struct Relay {
    address: SocketAddr,
    /// Connections accepted before this number carry nothing any more.
    silent_below: watch::Sender<usize>,
    accepted: watch::Receiver<usize>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Relay {
    /// Listens on a port of its own.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent_below, silence) = watch::channel(0);
        let (count, accepted) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let number = *count.borrow();
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                connections.spawn(copy(near_in, far_out, number, silence.clone()));
                connections.spawn(copy(far_in, near_out, number, silence.clone()));
                count.send_replace(number + 1);
            }
        });
        let task = tokio_util::task::AbortOnDropHandle::new(task);
        Self { address, silent_below, accepted, _task: task }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets all connections that are open now carry nothing any more, without a word to either end.
    pub(crate) fn stall(&self) {
        self.silent_below.send_replace(self.accepted());
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
) {
    let mut buffer = vec![0; 16 << 10];
    let carry = async {
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let is_silent = async { silent_below.wait_for(|below| number < *below).await.is_ok() };
    tokio::select! {
        () = carry => {}
        true = is_silent => std::future::pending().await,
    }
}
