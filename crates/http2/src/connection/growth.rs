//! Grows the receive window of a stream where it limits the client.
//!
//! A client can send one window per round trip, so a small window slows down a distant client. A
//! PING goes out with a WINDOW_UPDATE of the stream, and its ACK gives the round trip time. If a
//! whole window is read within two round trips, the window doubles, up to `max_stream_window`. A
//! body that is read or sent slowly never gets there. One stream per connection is measured at a
//! time, and only while its window can grow.

use super::Connection;
use crate::server::Http2Server;
use crate::window_measurement::WINDOW_PING;

impl<S: Http2Server, T> Connection<S, T> {
    /// Notes that octets of a stream were read; its WINDOW_UPDATE is in the output.
    pub(super) fn measure_window(&mut self, id: u32, read: usize) {
        if self.measurement.is_of(id) {
            self.measurement.read(read);
            return self.end_measurement();
        }
        if !self.measurement.is_free() {
            return;
        }
        let most = self.server.settings().max_stream_window;
        let stream = self.streams.get_mut(id);
        if stream.is_some_and(|stream| stream.receiver.should_measure(read, most)) {
            self.sender.ping(WINDOW_PING, false);
            self.budget.earn(); // for its ACK
            self.measurement.begin(id);
        }
    }

    /// Handles the ACK of the PING.
    pub(super) fn window_ping_acknowledged(&mut self) {
        self.measurement.ping_acknowledged();
        self.end_measurement();
    }

    fn end_measurement(&mut self) {
        let window = |id| self.streams.get_mut(id).map(|stream| stream.receiver.window());
        let Some(result) = self.measurement.end(window) else { return };
        let Some(stream) = self.streams.get_mut(result.stream) else { return };
        if !result.is_limit {
            stream.receiver.defer_measure();
            return;
        }
        let by = stream.receiver.growth(self.server.settings().max_stream_window);
        if by > 0 && self.receive_window.grow(by, &self.server) {
            stream.receiver.grow(by);
            self.sender.window_update(result.stream, by);
            self.update_receive_window();
        }
    }
}
