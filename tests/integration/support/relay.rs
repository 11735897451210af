//! A TCP relay that can fall silent (a path on which nothing arrives and nothing is refused), stop for a while, or
//! be slow.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Relays to one address at a time. Dropped, it closes everything.
pub(crate) struct Relay {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    /// Connections accepted before this number carry nothing any more.
    silent_below: watch::Sender<usize>,
    accepted: watch::Receiver<usize>,
    slowness: watch::Sender<Option<Slowness>>,
    /// How late what Redis says arrives.
    delay: watch::Sender<Duration>,
    /// Nothing is taken from either end.
    hold: watch::Sender<bool>,
    tampering: watch::Sender<Tampering>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

/// What is done to what Redis and its client say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Tampering {
    #[default]
    None,
    /// The client leaves this channel, and does not know it.
    Leave(String),
    /// No message reaches the clients that are connected now.
    Deafen,
}

/// A timer is late by up to this; the next piece makes up for it, or small pieces would be slower than
/// large ones.
const MAX_LATE: Duration = Duration::from_millis(3);

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
        let (delay, delayed) = watch::channel(Duration::ZERO);
        let (hold, held) = watch::channel(false);
        let (tampering, tampered) = watch::channel(Tampering::None);
        let (target, mut aim) = watch::channel(target);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let near = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    Ok(()) = aim.changed() => {
                        connections.abort_all();
                        continue;
                    }
                };
                let number = *count.borrow();
                let target = *aim.borrow();
                let Ok(far) = TcpStream::connect(target).await else { continue };
                // As the ends have it: the path must not hold small pieces back for 40 ms.
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                let mut tampered = tampered.clone();
                tampered.mark_unchanged();
                for (from, to, is_to_redis) in [(near_in, far_out, true), (far_in, near_out, false)]
                {
                    let path = Path {
                        number,
                        is_to_redis,
                        silent_below: silence.clone(),
                        slow: slow.clone(),
                        delayed: delayed.clone(),
                        held: held.clone(),
                        tampered: tampered.clone(),
                    };
                    connections.spawn(path.copy(from, to));
                }
                count.send_replace(number + 1);
            }
        });
        let task = tokio_util::task::AbortOnDropHandle::new(task);
        Self {
            address,
            target,
            silent_below,
            accepted,
            slowness,
            delay,
            hold,
            tampering,
            _task: task,
        }
    }

    /// Closes all connections, and leads those that come to another address.
    pub(crate) fn move_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
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

    /// Lets what Redis says from now on arrive so much later; what the other end says is not held up.
    pub(crate) fn delay(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    /// Stops, or goes on where it has stopped: what is said meanwhile waits at its sender.
    pub(crate) fn hold(&self, is_held: bool) {
        self.hold.send_replace(is_held);
    }

    /// Lets Redis forget that the clients that are connected now listen to this channel.
    pub(crate) fn leave(&self, channel: &str) {
        self.tampering.send_replace(Tampering::Leave(channel.to_owned()));
    }

    /// Lets no message reach the clients that are connected now.
    pub(crate) fn deafen(&self) {
        self.tampering.send_replace(Tampering::Deafen);
    }

    /// How many connections were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }
}

/// One direction of one connection.
struct Path {
    number: usize,
    is_to_redis: bool,
    silent_below: watch::Receiver<usize>,
    slow: watch::Receiver<Option<Slowness>>,
    delayed: watch::Receiver<Duration>,
    held: watch::Receiver<bool>,
    tampered: watch::Receiver<Tampering>,
}

impl Path {
    async fn copy(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let Self { number, is_to_redis, mut silent_below, slow, delayed, mut held, mut tampered } =
            self;
        let mut buffer = vec![0; 16 << 10];
        // Enough for three seconds of small pieces.
        let (sender, mut on_the_way) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(4096);
        let carry = async {
            let read = async move {
                let mut is_deaf = false;
                let mut free_at = Instant::now();
                loop {
                    let mut piece = tokio::select! {
                        read = read_unless(&mut held, &mut from, &mut buffer) => match read {
                            Ok(read @ 1..) => buffer[..read].to_vec(),
                            _ => return,
                        },
                        Ok(()) = tampered.changed() => {
                            let tampering = tampered.borrow_and_update().clone();
                            is_deaf |= tampering == Tampering::Deafen && !is_to_redis;
                            match tampering {
                                Tampering::Leave(name) if is_to_redis => unsubscribe(&name),
                                _ => continue,
                            }
                        }
                    };
                    if let (Tampering::Leave(name), false) = (&*tampered.borrow(), is_to_redis) {
                        piece = without_answer(&piece, name);
                    }
                    if is_deaf && memchr::memmem::find(&piece, b"$7\r\nmessage\r\n").is_some() {
                        continue;
                    }
                    let bytes = u32::try_from(piece.len()).unwrap();
                    let mut latency = slow.borrow().map_or(Duration::ZERO, |slow| slow.latency);
                    if !is_to_redis {
                        latency += *delayed.borrow();
                    }
                    if sender.send((Instant::now() + latency, piece)).await.is_err() {
                        return;
                    }
                    let slowness = *slow.borrow();
                    if let Some(Slowness { bytes_per_second, .. }) = slowness {
                        let time = Duration::from_secs(1) * bytes / bytes_per_second;
                        free_at = free_at.max(Instant::now() - MAX_LATE) + time;
                        tokio::time::sleep_until(free_at).await;
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
}

/// Reads once nothing is held up.
async fn read_unless(
    held: &mut watch::Receiver<bool>,
    from: &mut OwnedReadHalf,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
    loop {
        drop(held.wait_for(|is_held| !is_held).await);
        tokio::select! {
            biased;
            // Also what is waited for already does not pass.
            Ok(_) = held.wait_for(|is_held| *is_held) => {}
            read = from.read(buffer) => return read,
        }
    }
}

fn unsubscribe(name: &str) -> Vec<u8> {
    format!("*2\r\n$11\r\nUNSUBSCRIBE\r\n${}\r\n{name}\r\n", name.len()).into_bytes()
}

/// What Redis answers to that is taken out of what it says. It is short, and comes in one piece.
fn without_answer(piece: &[u8], name: &str) -> Vec<u8> {
    let answer = format!(">3\r\n$11\r\nunsubscribe\r\n${}\r\n{name}\r\n:", name.len());
    let Some(start) = memchr::memmem::find(piece, answer.as_bytes()) else {
        return piece.to_vec();
    };
    let rest = &piece[start + answer.len()..];
    let end = memchr::memmem::find(rest, b"\r\n").expect("it comes in one piece");
    [&piece[..start], &rest[end + 2..]].concat()
}
