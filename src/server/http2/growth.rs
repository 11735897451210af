//! Windows that grow with what is read.
//!
//! A client can send one window in each round trip, so a small window makes a far client slow. Whether
//! that is what holds a client back is measured: a PING goes out with an update of a stream's window,
//! its ACK tells how long a round trip takes, and where a whole window has been read within two of
//! them, the window doubles, up to `max_stream_window`. A body that is read or sent slowly does not get
//! there. One stream of a connection is measured at a time, and only while its window could grow.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use crate::server::connection::Handler;

/// What measures how long a round trip takes.
pub(super) const WINDOW_PING: &[u8; 8] = b"window? ";
/// A window that is read within so many round trips is what holds its client back.
const ROUND_TRIPS: u32 = 2;

/// A measurement that is underway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    stream: u32,
    begun: Instant,
    // `None`: the PING is not acknowledged yet.
    round_trip: Option<Duration>,
    // What has been read of the stream since, in octets.
    read: usize,
}

impl Measured {
    /// Whether it has taken longer than a window may.
    fn is_slow(&self) -> bool {
        self.round_trip.is_some_and(|time| self.begun.elapsed() > time * ROUND_TRIPS)
    }
}

impl<H: Handler> Connection<H> {
    /// So much of this stream has been read, and its client is told to send more.
    pub(super) fn measure(&mut self, id: u32, read: usize) {
        match &mut self.measured {
            Some(measured) if measured.stream == id => {
                measured.read += read;
                self.judge();
            }
            // Until its PING is acknowledged, another one could not be told from it.
            Some(measured) if !measured.is_slow() => {}
            _ => {
                let most = self.shard.settings().http2.max_stream_window;
                let stream = self.streams.get_mut(id);
                if stream.is_some_and(|stream| stream.receiving.wants_measure(read, most)) {
                    self.sender.ping(WINDOW_PING, false);
                    self.budget.earn(); // its ACK asks for nothing
                    let begun = Instant::now();
                    let measured = Measured { stream: id, begun, round_trip: None, read: 0 };
                    self.measured = Some(Box::new(measured));
                }
            }
        }
    }

    /// The client has acknowledged the PING.
    pub(super) fn note_round_trip(&mut self) {
        if let Some(measured) = &mut self.measured {
            measured.round_trip.get_or_insert_with(|| measured.begun.elapsed());
            self.judge();
        }
    }

    /// Ends the measurement, if a window has been read or its stream is gone.
    fn judge(&mut self) {
        let measured = self.measured.as_deref().filter(|it| it.round_trip.is_some());
        let Some(&measured) = measured else { return };
        let Some(stream) = self.streams.get_mut(measured.stream) else {
            self.measured = None;
            return;
        };
        if measured.read < stream.receiving.window() {
            return;
        }
        self.measured = None;
        if measured.is_slow() {
            stream.receiving.defer_measure();
            return;
        }
        let by = stream.receiving.growth(self.shard.settings().http2.max_stream_window);
        if by > 0 && self.credit.grow(by) {
            stream.receiving.grow(by);
            self.sender.window_update(measured.stream, by);
            self.update_credit();
        }
    }
}
