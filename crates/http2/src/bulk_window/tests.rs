use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::BulkWindow;

const PIECE: usize = 8 << 10;

/// A path with a rate in octets per second, a propagation delay, and a client that reads at
/// once.
struct Path {
    rate: f64,
    delay: Duration,
    /// ACKs come up to this much later.
    jitter: Duration,
}

/// What a run over some path measured.
#[derive(Debug)]
struct RunResult {
    /// The share of the rate that was used in the second half.
    share: f64,
    /// The 99th percentile of the queueing delay of events in the second half.
    waited: Duration,
}

/// Sends bulk without end for some time, and an event every millisecond.
fn run(path: &Path, time: Duration) -> RunResult {
    let start = Instant::now();
    let mut window = BulkWindow::new(start);
    let (mut now, mut free_at, mut arrived) = (start, start, 0.0);
    let mut acks: VecDeque<Instant> = VecDeque::new();
    let (mut waits, mut random) = (Vec::new(), fastrand::Rng::with_seed(7));
    let half = start + time / 2;
    while now < start + time {
        while acks.front().is_some_and(|ack| *ack <= now) {
            acks.pop_front();
            window.acknowledged(now);
        }
        // The kernel's buffer: at most 256 KiB wait on the path.
        let is_full = |free_at: Instant| {
            free_at.saturating_duration_since(now).as_secs_f64() * path.rate > 262_144.0
        };
        while !is_full(free_at) {
            let available = window.available().min(PIECE);
            if available == 0 {
                break;
            }
            window.sent(available);
            free_at = free_at.max(now) + Duration::from_secs_f64(available as f64 / path.rate);
            if free_at > half && free_at < start + time {
                arrived += available as f64;
            }
            if window.needs_marker() {
                window.marker_sent(now);
                acks.push_back(free_at + path.delay * 2 + path.jitter.mul_f64(random.f64()));
            }
        }
        if window.needs_marker() {
            window.marker_sent(now);
            acks.push_back(free_at.max(now) + path.delay * 2);
        }
        if now > half {
            waits.push(free_at.saturating_duration_since(now));
        }
        now += Duration::from_millis(1);
    }
    waits.sort_unstable();
    let waited = waits[waits.len() * 99 / 100];
    RunResult { share: arrived / path.rate / (time / 2).as_secs_f64(), waited }
}

#[test]
fn events_do_not_wait_behind_bulk_that_a_client_reads_slowly() {
    for (rate, delay) in [(2e6, 0), (2e6, 10), (5e5, 1), (1e7, 0), (1.25e7, 20)] {
        let (delay, jitter) = (Duration::from_millis(delay), Duration::ZERO);
        let result = run(&Path { rate, delay, jitter }, Duration::from_secs(60));
        let least = Duration::from_secs_f64(16_384.0 / rate);
        let most = (least + Duration::from_millis(2)).max(Duration::from_millis(14));
        let most = most.max(delay * 2);
        assert!(result.waited <= most, "{rate} {delay:?}: {result:?}");
        assert!(result.share > 0.85, "{rate} {delay:?}: {result:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_path_is_filled_whatever_it_is(
        rate in prop_oneof![2e5..2e6, 2e6..2e7, 2e7..1e8],
        delay in 0_u64..100,
        jitter in 0_u64..10,
    ) {
        // A queue of 256 KiB does not fill a longer path.
        prop_assume!(rate * (delay as f64) / 500.0 < 200_000.0);
        let (delay, jitter) = (Duration::from_millis(delay), Duration::from_millis(jitter));
        let result = run(&Path { rate, delay, jitter }, Duration::from_secs(30));
        prop_assert!(result.share > 0.7, "{:?}", result);
    }
}

#[test]
fn bulk_on_a_path_without_a_queue_is_not_limited() {
    let start = Instant::now();
    for pause in [Duration::ZERO, Duration::from_millis(1)] {
        let (mut window, mut now) = (BulkWindow::new(start), start);
        for round in 0..1000 {
            for _ in 0..1000 {
                let available = window.available().min(64 << 10);
                window.sent(available);
                if window.needs_marker() {
                    window.marker_sent(now);
                }
            }
            // A queue shows once, for half a second.
            now += if round == 500 { Duration::from_millis(500) } else { pause };
            while window.oldest_marker().is_some() {
                window.acknowledged(now);
            }
        }
        assert_eq!(window.available(), usize::MAX - window.in_flight, "{window:?}");
    }
}

#[test]
fn bulk_is_not_limited_until_a_client_acknowledges_markers_again() {
    let start = Instant::now();
    let mut window = BulkWindow::new(start);
    window.sent(PIECE);
    window.marker_sent(start);
    let mut now = start + Duration::from_millis(1);
    window.acknowledged(now);
    assert!(!window.is_small());
    for _ in 0..20 {
        window.sent(PIECE);
        window.marker_sent(now);
        now += Duration::from_millis(100);
        window.acknowledged(now);
    }
    assert!(window.is_small(), "a queue");
    window.sent(PIECE);
    window.marker_sent(now);
    window.lift_limit();
    assert!(!window.is_small() && window.available() > 1 << 30);
    assert_eq!(window.oldest_marker(), Some(now));
    window.acknowledged(now + Duration::from_secs(2));
    assert!(window.is_small());
}
