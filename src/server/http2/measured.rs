//! Measures whether the window of a stream limits its sender: with our clients, whose uploads we read,
//! and with backends, whose responses our clients read.
//!
//! A sender can send one window per round trip. A PING goes out with a WINDOW_UPDATE of the stream; its
//! ACK tells how long a round trip takes. If a whole window is read within two of them, the window is
//! the limit. Who sends the PING and who makes the window larger is the caller's business.

use std::time::Duration;

use tokio::time::Instant;

/// The payload of the PING that measures a round trip.
pub(crate) const WINDOW_PING: &[u8; 8] = b"window? ";
/// A window that is read within this many round trips limits its sender.
const ROUND_TRIPS: u32 = 2;

/// A measurement of one stream that is underway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    stream: u32,
    begun: Instant,
    // `None`: the PING is not acknowledged yet.
    round_trip: Option<Duration>,
    // What has been read of the stream since, in octets.
    read: usize,
}

impl Measured {
    /// Begins to measure this stream. The caller sends [`WINDOW_PING`] now.
    pub(crate) fn begin(stream: u32) -> Self {
        Self { stream, begun: Instant::now(), round_trip: None, read: 0 }
    }

    /// The stream that is measured.
    pub(crate) fn stream(&self) -> u32 {
        self.stream
    }

    /// This many octets of the stream have been read.
    pub(crate) fn read(&mut self, octets: usize) {
        self.read += octets;
    }

    /// The PING has been acknowledged.
    pub(crate) fn acknowledged(&mut self) {
        self.round_trip.get_or_insert_with(|| self.begun.elapsed());
    }

    /// Whether the PING has been acknowledged.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.round_trip.is_some()
    }

    /// Whether a window of this size, in octets, has been read to its end, and the PING acknowledged.
    pub(crate) fn is_complete(&self, window: usize) -> bool {
        self.is_acknowledged() && self.read >= window
    }

    /// Whether it has taken longer than it would if the window were the limit.
    pub(crate) fn is_slow(&self) -> bool {
        self.round_trip.is_some_and(|time| self.begun.elapsed() > time * ROUND_TRIPS)
    }
}
