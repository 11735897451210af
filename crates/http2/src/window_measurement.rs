//! Measures whether the window of a stream limits its sender. Used for clients, which upload to us,
//! and for backends, which respond to us.
//!
//! A sender can send one window per round trip. A PING goes out with a WINDOW_UPDATE of the stream;
//! its ACK gives the round trip time. If a whole window is read within two round trips, the window
//! is the limit. The caller sends the PING and grows the window.

use std::time::Duration;

use tokio::time::Instant;

/// The payload of the PING that measures a round trip.
pub const WINDOW_PING: &[u8; 8] = b"window? ";
/// A window that is read within this many round trips limits its sender.
const ROUND_TRIPS: u32 = 2;

/// The measurement on one connection: of one stream at a time, since the ACKs of two PINGs would
/// look the same.
#[derive(Debug, Default)]
pub struct WindowMeasurement(Option<Box<ActiveMeasurement>>);

#[derive(Clone, Copy, Debug)]
struct ActiveMeasurement {
    stream: u32,
    begun: Instant,
    // `None` until the PING is acknowledged.
    round_trip: Option<Duration>,
    // Octets of the stream that were read since `begun`.
    read: usize,
}

/// The result of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasurementResult {
    /// The stream that was measured.
    pub stream: u32,
    /// Whether its window limits its sender.
    pub is_limit: bool,
}

impl WindowMeasurement {
    /// Whether this stream is being measured.
    pub fn is_of(&self, stream: u32) -> bool {
        self.0.as_deref().is_some_and(|active| active.stream == stream)
    }

    /// Whether a measurement may begin: there is none, or it already shows that its window is not
    /// the limit.
    pub fn is_free(&self) -> bool {
        self.0.as_deref().is_none_or(ActiveMeasurement::is_slow)
    }

    /// Begins to measure a stream. The caller sends [`WINDOW_PING`] now.
    pub fn begin(&mut self, stream: u32) {
        let active = ActiveMeasurement { stream, begun: Instant::now(), round_trip: None, read: 0 };
        self.0 = Some(Box::new(active));
    }

    /// Counts octets that were read of the stream being measured.
    pub fn read(&mut self, octets: usize) {
        if let Some(active) = &mut self.0 {
            active.read += octets;
        }
    }

    /// Notes the ACK of the PING.
    pub fn ping_acknowledged(&mut self) {
        if let Some(active) = &mut self.0 {
            active.round_trip.get_or_insert_with(|| active.begun.elapsed());
        }
    }

    /// Ends the measurement once the PING is acknowledged and a whole window is read. `window`
    /// returns the size of a stream's window in octets; `None` if the stream is closed, which drops
    /// the measurement.
    pub fn end(&mut self, window: impl FnOnce(u32) -> Option<usize>) -> Option<MeasurementResult> {
        let active = *self.0.as_deref().filter(|active| active.round_trip.is_some())?;
        let window = window(active.stream);
        if window.is_some_and(|window| active.read < window) {
            return None;
        }
        self.0 = None;
        let result = MeasurementResult { stream: active.stream, is_limit: !active.is_slow() };
        window.map(|_| result)
    }
}

impl ActiveMeasurement {
    /// Whether it has taken too long for the window to be the limit.
    fn is_slow(&self) -> bool {
        self.round_trip.is_some_and(|time| self.begun.elapsed() > time * ROUND_TRIPS)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::{MeasurementResult, WindowMeasurement};

    /// Measures with a round trip of 20 ms; a whole window is read after `read_after` milliseconds.
    async fn measure(read_after: u64) -> Option<MeasurementResult> {
        let mut measurement = WindowMeasurement::default();
        measurement.begin(3);
        advance(Duration::from_millis(20)).await;
        measurement.ping_acknowledged();
        assert_eq!(measurement.end(|_| Some(100)), None, "nothing is read yet");
        assert!(measurement.is_of(3) && !measurement.is_free());
        advance(Duration::from_millis(read_after - 20)).await;
        measurement.read(100);
        let result = measurement.end(|_| Some(100));
        assert!(measurement.is_free());
        result
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_limits_its_sender_if_it_is_read_within_two_round_trips() {
        assert_eq!(measure(30).await, Some(MeasurementResult { stream: 3, is_limit: true }));
        assert_eq!(measure(40).await, Some(MeasurementResult { stream: 3, is_limit: true }));
        assert_eq!(measure(41).await, Some(MeasurementResult { stream: 3, is_limit: false }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_measurement_ends_with_its_stream_and_is_replaced_when_it_is_slow() {
        let mut measurement = WindowMeasurement::default();
        measurement.begin(3);
        assert!(!measurement.is_free(), "an ACK could belong to either PING");
        advance(Duration::from_millis(20)).await;
        measurement.ping_acknowledged();
        advance(Duration::from_millis(21)).await;
        assert!(measurement.is_free());
        assert_eq!(measurement.end(|_| None), None);
        assert!(!measurement.is_of(3));
    }
}
