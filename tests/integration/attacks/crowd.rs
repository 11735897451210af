//! Fifty who are served while somebody attacks: none of them may miss an event.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::support::{EventStream, Gateway, Redis, Via, kernel_tcp_bytes, waiting_bytes};

pub(crate) const READERS: usize = 50;
/// So often something is published for them, as a rule.
pub(crate) const PACE: Duration = Duration::from_millis(20);
/// So long the last of them may take to have what was published.
const PATIENCE: Duration = Duration::from_secs(15);

/// The good streams: each kind of connection has as many.
pub(crate) struct Crowd {
    gateway: Arc<Gateway>,
    shared: Arc<Shared>,
    readers: Arc<Vec<Reader>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Reader {
    received: AtomicUsize,
    is_harmed: AtomicBool,
}

struct Shared {
    start: Instant,
    published: AtomicUsize,
    late: Mutex<Vec<Duration>>,
}

impl Shared {
    fn late(&self) -> Vec<Duration> {
        std::mem::take(&mut self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an attack came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toll {
    /// Streams of the crowd that ended, or missed an event, or did not get it in time.
    pub(crate) harmed: usize,
    /// From PUBLISH to the reader, for 99 of 100 events.
    pub(crate) p99: Duration,
    /// How many events the last reader was behind what was published, at most: unlike a time it says
    /// little of how busy the machine is, since who publishes is as slow then.
    pub(crate) behind: usize,
    /// By how much the gateway grew, at most.
    pub(crate) resident: u64,
    /// By how much the kernel's memory for sockets grew, at most. Other tests on the machine are in it.
    pub(crate) kernel: usize,
    /// By how much grew what waits at the gateway's own sockets, at most.
    pub(crate) waiting: usize,
    /// Processor time of the gateway.
    pub(crate) busy: Duration,
    pub(crate) took: Duration,
}

impl Crowd {
    /// Opens the streams, and begins to publish.
    pub(crate) async fn gather(gateway: &Arc<Gateway>, redis: &Arc<Redis>) -> Self {
        Self::of(READERS, PACE, gateway, redis).await
    }

    /// The same with so many streams, and so long between what is published.
    pub(crate) async fn of(
        count: usize,
        pace: Duration,
        gateway: &Arc<Gateway>,
        redis: &Arc<Redis>,
    ) -> Self {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            published: AtomicUsize::new(0),
            late: Mutex::default(),
        });
        let readers: Vec<_> = (0..count).map(|_| Reader::default()).collect();
        let readers = Arc::new(readers);
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let via = Via::ALL[number % Via::ALL.len()];
            let stream = gateway.subscribe_via(via, "/events/crowd").await;
            let (readers, shared) = (Arc::clone(&readers), Arc::clone(&shared));
            tasks.spawn(async move { read(stream, &readers[number], &shared).await });
        }
        let (clock, redis) = (Arc::clone(&shared), Arc::clone(redis));
        tasks.spawn(async move {
            loop {
                let number = clock.published.load(Ordering::SeqCst);
                let said = format!("{number} {}", clock.start.elapsed().as_micros());
                redis.publish("crowd", said).await;
                clock.published.store(number + 1, Ordering::SeqCst);
                tokio::time::sleep(pace).await;
            }
        });
        Self { gateway: Arc::clone(gateway), shared, readers, _tasks: tasks }
    }

    /// Attacks, and looks at what it costs.
    pub(crate) async fn under<T>(&self, attack: impl Future<Output = T>) -> (T, Toll) {
        drop(self.shared.late());
        let (resident, kernel) = (self.gateway.resident_bytes(), kernel_tcp_bytes());
        let sockets = ["http", "https"].map(|kind| self.gateway.address(kind));
        let waiting = waiting_bytes(&sockets);
        let (busy, begun) = (self.gateway.cpu_time(), Instant::now());
        let (mut most_resident, mut most_kernel, mut most_waiting) = (resident, kernel, waiting);
        let (mut attack, mut looks) = (std::pin::pin!(attack), 0);
        let mut behind = 0;
        let mut look = tokio::time::interval(Duration::from_millis(50));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            tokio::select! {
                result = attack.as_mut() => break result,
                _ = look.tick() => {
                    most_resident = most_resident.max(self.gateway.resident_bytes());
                    most_kernel = most_kernel.max(kernel_tcp_bytes());
                    behind = behind.max(self.behind());
                    looks += 1;
                    // That is a long table where others leave many sockets behind.
                    if looks % 4 == 0 {
                        most_waiting = most_waiting.max(waiting_bytes(&sockets));
                    }
                }
            }
        };
        let took = begun.elapsed();
        behind = behind.max(self.behind());
        let harmed = self.harmed().await;
        let mut late = self.shared.late();
        late.sort_unstable();
        let toll = Toll {
            harmed,
            behind,
            p99: late.get(late.len() * 99 / 100).copied().unwrap_or_default(),
            resident: most_resident.max(self.gateway.resident_bytes()) - resident,
            kernel: most_kernel - kernel,
            waiting: most_waiting - waiting,
            busy: self.gateway.cpu_time() - busy,
            took,
        };
        (result, toll)
    }

    /// How many of the events that were published by now the last reader does not have.
    fn behind(&self) -> usize {
        let received = self.readers.iter().map(|reader| reader.received.load(Ordering::SeqCst));
        let last = received.min().unwrap_or_default();
        self.shared.published.load(Ordering::SeqCst).saturating_sub(last)
    }

    /// Waits until all have what was published by now; answers how many have not.
    async fn harmed(&self) -> usize {
        let awaited = self.shared.published.load(Ordering::SeqCst);
        let is_harmed = |reader: &Reader| {
            reader.is_harmed.load(Ordering::SeqCst)
                || reader.received.load(Ordering::SeqCst) < awaited
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let harmed = self.readers.iter().filter(|reader| is_harmed(reader)).count();
            if harmed == 0 || Instant::now() > deadline {
                return harmed;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn read(mut stream: EventStream, reader: &Reader, shared: &Shared) {
    let mut expected = 0;
    while let Some(event) = stream.event().await {
        let (number, at) = event.data.split_once(' ').unwrap_or_default();
        if number.parse() != Ok(expected) {
            break;
        }
        expected += 1;
        reader.received.store(expected, Ordering::SeqCst);
        let at = Duration::from_micros(at.parse().unwrap_or_default());
        let late = shared.start.elapsed().saturating_sub(at);
        shared.late.lock().unwrap_or_else(PoisonError::into_inner).push(late);
    }
    reader.is_harmed.store(true, Ordering::SeqCst);
}
