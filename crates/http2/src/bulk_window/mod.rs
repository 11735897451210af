//! How much bulk may be in flight to a client that has event streams on the same connection.
//!
//! # Why
//! What has been written arrives before every later event. It waits in our kernel, on the path, and
//! in the client's kernel until the client reads it. `TCP_NOTSENT_LOWAT` bounds only the first of
//! the three: a client that reads 2 MB/s lets megabytes pile up in its own receive buffer, and TCP
//! regards them as delivered. Only HTTP/2 itself shows what the client has read.
//!
//! # How
//! A delay-based congestion window, as in TCP Vegas, LEDBAT (RFC 6817) or BBR, with PINGs as its
//! clock:
//!
//! - **Measure.** A PING, the *marker*, follows each part of the bulk. Its ACK proves that
//!   everything before it has been read. The shortest time to an ACK is that of an empty path; what
//!   another ACK took beyond that is queueing delay. What was in flight when the marker was sent,
//!   divided by the time to its ACK, is a sample of the delivery rate. The highest sample of the
//!   last seconds counts, since jitter only ever makes a path look slower.
//! - **Shrink.** If the queueing delay exceeds twice [`queue_time`], the window becomes what is
//!   delivered in `shortest + queue_time` at that rate, and never less than [`MIN_WINDOW`]. That is
//!   the estimate itself, not a step down: several late ACKs in a row lead to the same value, and a
//!   path that is long or fast stays filled.
//! - **Grow.** If the queueing delay is below `queue_time` and bulk was held back, the window
//!   grows, at most once per round trip: to twice its size until the first queue shows, by a
//!   quarter after that. From [`UNLIMITED_FROM`] on there is no limit.
//! - **Probe.** When a queue first shows, and every [`PROBE_INTERVAL`] while there is a limit, bulk
//!   pauses until almost nothing is in flight, and the shortest time is measured again. Without
//!   that, a standing queue would count as the path.
//!
//! Without event streams on the connection none of this runs (see [`connection`](super::connection)). Time is
//! passed in. A client that does not acknowledge PINGs is [not limited](BulkWindow::lift_limit)
//! here; [`keep_alive`](super::keep_alive) closes its connection.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The payload of a marker PING.
pub(crate) const MARKER_PING: &[u8; 8] = b"so far? ";
/// A marker that is not acknowledged within this no longer limits bulk.
pub(crate) const MARKER_TIMEOUT: Duration = Duration::from_secs(1);
/// The smallest window, in octets.
const MIN_WINDOW: usize = 16 << 10;
/// The window at first, in octets.
const INITIAL_WINDOW: usize = 256 << 10;
/// A window of this size or more is no limit, in octets.
const UNLIMITED_FROM: usize = 16 << 20;
/// The window while the empty path is measured, in octets.
const PROBE_WINDOW: usize = 4 << 10;
/// Less than this is not sent, in octets: each piece costs a frame and a write.
const MIN_PIECE: usize = 2 << 10;
/// This much is always worth sending, in octets.
const LARGE_PIECE: usize = 16 << 10;
/// Markers in flight. With several of them, bulk leaves in as many pieces per round trip instead of
/// in one burst.
const MAX_MARKERS: usize = 8;
/// Octets between two markers at most, while fewer than [`MAX_MARKERS`] are in flight.
const MAX_UNMARKED: usize = 256 << 10;
/// How old the shortest time may become before it is measured again.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);
/// The delivery rate is the highest of the last one to two of these.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// The queueing delay that bulk may cause: 5 ms, or a quarter of the round trip of the empty path.
fn queue_time(shortest: Duration) -> Duration {
    (shortest / 4).max(Duration::from_millis(5))
}

/// The congestion window of the bulk to one client.
#[derive(Debug)]
pub(crate) struct BulkWindow {
    // The window, in octets; `usize::MAX`: no limit.
    size: usize,
    // Sent, and not proven to be read, in octets.
    in_flight: usize,
    // What of that was sent after the last marker, in octets.
    unmarked: usize,
    // Markers without an ACK, the oldest first.
    markers: VecDeque<Marker>,
    // The time to an ACK on the empty path, and when it was measured.
    shortest: Option<Duration>,
    shortest_at: Instant,
    probe: RttProbe,
    rate: DeliveryRate,
    // Whether a queue has ever shown.
    has_seen_queue: bool,
    // Whether bulk was held back since the window last grew, and when it grew.
    was_limited: bool,
    grown_at: Instant,
}

/// A PING without an ACK.
#[derive(Clone, Copy, Debug)]
struct Marker {
    sent: Instant,
    // Octets sent between the marker before and this one.
    octets: usize,
    // Octets in flight when this was sent.
    in_flight: usize,
    // Whether the path was nearly empty then.
    is_probe: bool,
}

/// A measurement of the empty path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RttProbe {
    Idle,
    /// Waiting for the path to drain.
    Due,
    /// Its marker is sent.
    Sent,
}

impl BulkWindow {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            size: INITIAL_WINDOW,
            in_flight: 0,
            unmarked: 0,
            markers: VecDeque::new(),
            shortest: None,
            shortest_at: now,
            probe: RttProbe::Idle,
            rate: DeliveryRate::default(),
            has_seen_queue: false,
            was_limited: false,
            grown_at: now,
        }
    }

    /// How much bulk may be sent now, in octets; 0: nothing before a marker is acknowledged.
    pub(crate) fn available(&mut self) -> usize {
        let most = match self.probe {
            RttProbe::Idle => self.size,
            RttProbe::Due => PROBE_WINDOW,
            RttProbe::Sent => 0,
        };
        let available = most.saturating_sub(self.in_flight);
        if available >= (most / 8).clamp(MIN_PIECE, LARGE_PIECE) {
            return available;
        }
        self.was_limited |= self.probe == RttProbe::Idle; // a pause to probe is no reason to grow
        0
    }

    /// Whether the window is so small that bulk should leave in small pieces.
    pub(crate) fn is_small(&self) -> bool {
        self.size < INITIAL_WINDOW
    }

    /// Counts bulk that was sent.
    pub(crate) fn sent(&mut self, octets: usize) {
        self.in_flight += octets;
        self.unmarked += octets;
    }

    /// Whether a marker should be sent now.
    pub(crate) fn needs_marker(&mut self) -> bool {
        if self.unmarked == 0 || self.markers.len() == MAX_MARKERS {
            return false;
        }
        // Without a marker in flight, no ACK would wake the bulk that is held back.
        let is_stuck = self.markers.is_empty() && self.available() == 0;
        is_stuck || self.unmarked >= (self.size / MAX_MARKERS).min(MAX_UNMARKED)
    }

    /// Notes that a marker was sent.
    pub(crate) fn marker_sent(&mut self, now: Instant) {
        let is_probe = self.probe == RttProbe::Due && self.in_flight <= PROBE_WINDOW;
        if is_probe {
            self.probe = RttProbe::Sent;
        }
        let octets = std::mem::take(&mut self.unmarked);
        let in_flight = self.in_flight;
        self.markers.push_back(Marker { sent: now, octets, in_flight, is_probe });
    }

    /// Handles the ACK of the oldest marker: everything before it has been read.
    pub(crate) fn acknowledged(&mut self, now: Instant) {
        let Some(marker) = self.markers.pop_front() else { return };
        let took = now - marker.sent;
        self.in_flight -= marker.octets;
        self.rate.note(marker.in_flight, took, now);
        if marker.is_probe {
            (self.shortest, self.shortest_at, self.probe) = (Some(took), now, RttProbe::Idle);
        }
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        self.shortest = Some(shortest);
        self.adapt(marker, took, shortest, now);
        if self.size != usize::MAX && now >= self.shortest_at + PROBE_INTERVAL {
            self.probe = RttProbe::Due;
        }
    }

    /// Shrinks or grows the window after a marker that `took` so long.
    fn adapt(&mut self, marker: Marker, took: Duration, shortest: Duration, now: Instant) {
        let (waited, queue_time) = (took - shortest, queue_time(shortest));
        if waited > 2 * queue_time {
            if !std::mem::replace(&mut self.has_seen_queue, true) {
                // The shortest time so far may include this queue.
                self.probe = RttProbe::Due;
            }
            let delivered = self.rate.delivered_in(shortest + queue_time);
            self.resize(self.size.min(delivered.max(MIN_WINDOW)));
        } else if waited < queue_time && self.was_limited && marker.sent >= self.grown_at {
            let more = if self.has_seen_queue { self.size / 4 } else { self.size };
            self.resize(self.size.saturating_add(more));
            (self.grown_at, self.was_limited) = (now, false);
        }
    }

    /// Sets the window, in octets.
    fn resize(&mut self, octets: usize) {
        self.size = if octets < UNLIMITED_FROM { octets } else { usize::MAX };
    }

    /// When the oldest marker without an ACK was sent.
    pub(crate) fn oldest_marker(&self) -> Option<Instant> {
        self.markers.front().map(|marker| marker.sent)
    }

    /// Lifts the limit until the client acknowledges markers again.
    pub(crate) fn lift_limit(&mut self) {
        (self.size, self.probe) = (usize::MAX, RttProbe::Idle);
    }
}

/// The highest delivery rate of the last seconds.
#[derive(Debug, Default)]
struct DeliveryRate {
    // Octets per second: the highest in this window, and in the one before.
    highest: u128,
    before: u128,
    window: Option<Instant>,
}

impl DeliveryRate {
    /// Adds a sample.
    fn note(&mut self, octets: usize, took: Duration, now: Instant) {
        if self.window.is_none_or(|window| now >= window + RATE_WINDOW) {
            (self.before, self.highest, self.window) = (self.highest, 0, Some(now));
        }
        let rate = octets as u128 * 1_000_000 / took.as_micros().max(1);
        self.highest = self.highest.max(rate);
    }

    /// What is delivered in this time, in octets.
    fn delivered_in(&self, time: Duration) -> usize {
        let octets = self.highest.max(self.before) * time.as_micros() / 1_000_000;
        usize::try_from(octets).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests;
