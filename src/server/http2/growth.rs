//! Windows that grow with what is read.
//!
//! A client can send one window in each round trip, so a small window makes a far client slow. Whether
//! that is what holds a client back is measured: a PING goes out with an update of a stream's window,
//! its ACK tells how long a round trip takes, and where a whole window has been read within two of
//! them, the window doubles, up to `max_stream_window`. A body that is read or sent slowly does not get
//! there. One stream of a connection is measured at a time, and only while its window could grow.

use super::connection::Connection;
pub(super) use super::measured::{Measurement, WINDOW_PING};
use crate::server::connection::Handler;

impl<H: Handler> Connection<H> {
    /// So much of this stream has been read, and its client is told to send more.
    pub(super) fn measure(&mut self, id: u32, read: usize) {
        if self.measurement.is_of(id) {
            self.measurement.read(read);
            return self.end_measurement();
        }
        if !self.measurement.is_free() {
            return;
        }
        let most = self.shard.settings().http2.max_stream_window;
        let stream = self.streams.get_mut(id);
        if stream.is_some_and(|stream| stream.receiving.wants_measure(read, most)) {
            self.sender.ping(WINDOW_PING, false);
            self.budget.earn(); // its ACK asks for nothing
            self.measurement.begin(id);
        }
    }

    /// The client has acknowledged the PING.
    pub(super) fn note_round_trip(&mut self) {
        self.measurement.acknowledged();
        self.end_measurement();
    }

    fn end_measurement(&mut self) {
        let window = |id| self.streams.get_mut(id).map(|stream| stream.receiving.window());
        let Some(finding) = self.measurement.end(window) else { return };
        let Some(stream) = self.streams.get_mut(finding.stream) else { return };
        if !finding.is_limit {
            stream.receiving.defer_measure();
            return;
        }
        let by = stream.receiving.growth(self.shard.settings().http2.max_stream_window);
        if by > 0 && self.credit.grow(by) {
            stream.receiving.grow(by);
            self.sender.window_update(finding.stream, by);
            self.update_credit();
        }
    }
}
