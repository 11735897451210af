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

/// The measurements on one connection: of one stream at a time, since the ACKs of two PINGs could not be
/// told apart.
#[derive(Debug, Default)]
pub(crate) struct Measurement(Option<Box<Underway>>);

#[derive(Clone, Copy, Debug)]
struct Underway {
    stream: u32,
    begun: Instant,
    // `None`: the PING is not acknowledged yet.
    round_trip: Option<Duration>,
    // What has been read of the stream since, in octets.
    read: usize,
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The stream that was measured.
    pub(crate) stream: u32,
    /// Whether its window limits its sender.
    pub(crate) is_limit: bool,
}

impl Measurement {
    /// Whether this stream is being measured.
    pub(crate) fn is_of(&self, stream: u32) -> bool {
        self.0.as_deref().is_some_and(|underway| underway.stream == stream)
    }

    /// Whether another stream may be measured: one whose window turns out not to be the limit is given up.
    pub(crate) fn is_free(&self) -> bool {
        self.0.as_deref().is_none_or(Underway::is_slow)
    }

    /// Begins to measure this stream. The caller sends [`WINDOW_PING`] now.
    pub(crate) fn begin(&mut self, stream: u32) {
        let underway = Underway { stream, begun: Instant::now(), round_trip: None, read: 0 };
        self.0 = Some(Box::new(underway));
    }

    /// This many octets of the stream that is being measured have been read.
    pub(crate) fn read(&mut self, octets: usize) {
        if let Some(underway) = &mut self.0 {
            underway.read += octets;
        }
    }

    /// The PING has been acknowledged.
    pub(crate) fn acknowledged(&mut self) {
        if let Some(underway) = &mut self.0 {
            underway.round_trip.get_or_insert_with(|| underway.begun.elapsed());
        }
    }

    /// Ends the measurement when the PING is acknowledged and a whole window is read. `window` gives the
    /// size of a stream's window in octets; `None`: the stream has ended, and its measurement with it.
    pub(crate) fn end(&mut self, window: impl FnOnce(u32) -> Option<usize>) -> Option<Finding> {
        let underway = *self.0.as_deref().filter(|underway| underway.round_trip.is_some())?;
        let window = window(underway.stream);
        if window.is_some_and(|window| underway.read < window) {
            return None;
        }
        self.0 = None;
        let finding = Finding { stream: underway.stream, is_limit: !underway.is_slow() };
        window.map(|_| finding)
    }
}

impl Underway {
    /// Whether it has taken longer than it would if the window were the limit.
    fn is_slow(&self) -> bool {
        self.round_trip.is_some_and(|time| self.begun.elapsed() > time * ROUND_TRIPS)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::{Finding, Measurement};

    /// A round trip of 20 ms, after which a whole window has been read at this time.
    async fn measure(read_after: u64) -> Option<Finding> {
        let mut measurement = Measurement::default();
        measurement.begin(3);
        advance(Duration::from_millis(20)).await;
        measurement.acknowledged();
        assert_eq!(measurement.end(|_| Some(100)), None, "nothing is read yet");
        assert!(measurement.is_of(3) && !measurement.is_free());
        advance(Duration::from_millis(read_after - 20)).await;
        measurement.read(100);
        let finding = measurement.end(|_| Some(100));
        assert!(measurement.is_free());
        finding
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_limits_its_sender_if_it_is_read_within_two_round_trips() {
        assert_eq!(measure(30).await, Some(Finding { stream: 3, is_limit: true }));
        assert_eq!(measure(40).await, Some(Finding { stream: 3, is_limit: true }));
        assert_eq!(measure(41).await, Some(Finding { stream: 3, is_limit: false }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_measurement_ends_with_its_stream_and_gives_way_when_it_is_slow() {
        let mut measurement = Measurement::default();
        measurement.begin(3);
        assert!(!measurement.is_free(), "its PING could be taken for that of another");
        advance(Duration::from_millis(20)).await;
        measurement.acknowledged();
        advance(Duration::from_millis(21)).await;
        assert!(measurement.is_free());
        assert_eq!(measurement.end(|_| None), None);
        assert!(!measurement.is_of(3));
    }
}
