//! A TCP relay that cuts connections in the middle of what they carry.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What makes an end, and how many bytes the client is sent before it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// A FIN, in the middle of whatever it is.
    Close(usize),
    /// A RST.
    Reset(usize),
}

impl Cut {
    fn after(self) -> usize {
        match self {
            Self::Close(bytes) | Self::Reset(bytes) => bytes,
        }
    }
}

/// Relays to one address at a time. Dropped, it closes everything.
pub(crate) struct Cutter {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    cuts: Arc<Mutex<VecDeque<Cut>>>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Cutter {
    /// Listens on a port of its own. The first connection that carries more than the first of `cuts`
    /// says is cut there, a later one as the second says, and so on; then none is.
    pub(crate) async fn to(target: SocketAddr, cuts: &[Cut]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, to) = watch::channel(target);
        let cuts = Arc::new(Mutex::new(cuts.iter().copied().collect()));
        let of_connections = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (to, cuts) = (*to.borrow(), Arc::clone(&of_connections));
                connections.spawn(async move {
                    // Where nobody listens, the client is hung up on.
                    if let Ok(far) = TcpStream::connect(to).await {
                        relay(near, far, &cuts).await;
                    }
                });
            }
        });
        let task = tokio_util::task::AbortOnDropHandle::new(task);
        Self { address, target, cuts, _task: task }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Later connections lead here.
    pub(crate) fn turn_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// How many cuts are still to be made.
    pub(crate) fn cuts_left(&self) -> usize {
        self.cuts.lock().unwrap().len()
    }
}

/// Carries both directions until one of them ends, or a cut is due.
async fn relay(near: TcpStream, far: TcpStream, cuts: &Mutex<VecDeque<Cut>>) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let cut = {
        let there = tokio::io::copy(&mut near_in, &mut far_out);
        let back = async {
            let (mut buffer, mut carried) = (vec![0; 16 << 10], 0);
            loop {
                let read = far_in.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
                let cut = take_due(cuts, carried + read);
                let passed = cut.map_or(read, |cut| cut.after().saturating_sub(carried));
                near_out.write_all(&buffer[..passed]).await.ok()?;
                carried += passed;
                if cut.is_some() {
                    return cut;
                }
            }
        };
        tokio::select! {
            cut = back => cut,
            _ = there => None,
        }
    };
    let near = near_in.reunite(near_out).unwrap();
    if let Some(Cut::Reset(_)) = cut {
        socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The cut that is due on a connection that has carried so much.
fn take_due(cuts: &Mutex<VecDeque<Cut>>, carried: usize) -> Option<Cut> {
    let mut cuts = cuts.lock().unwrap();
    if cuts.front().is_some_and(|cut| carried > cut.after()) { cuts.pop_front() } else { None }
}
