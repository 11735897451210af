//! Lets the window of a stream grow while it limits the download.
//!
//! One stream at a time is measured, from one PING to its ACK.

use ssegate_http2::window_measurement::WINDOW_PING;

use super::multiplexer::Multiplexer;
use super::stream::ReceiveState;

impl Multiplexer {
    /// Continues or starts a measurement after octets of a stream were read and their credit
    /// returned.
    pub(super) fn measure(&mut self, id: u32, read: usize) {
        if self.measurement.is_of(id) {
            self.measurement.read(read);
            return self.end_measurement();
        }
        if !self.measurement.is_free() {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let ReceiveState::Body { left, .. } = stream.receive_state else { return };
        if stream.window.should_measure(read, left) {
            self.put_ping(WINDOW_PING, false);
            self.measurement.begin(id);
        }
    }

    /// The backend has acknowledged the PING of the measurement.
    pub(super) fn ping_acknowledged(&mut self) {
        self.measurement.ping_acknowledged();
        self.end_measurement();
    }

    fn end_measurement(&mut self) {
        let window = |id| self.streams.get(&id).map(|stream| stream.window.size());
        let Some(finding) = self.measurement.end(window) else { return };
        let Some(stream) = self.streams.get_mut(&finding.stream) else { return };
        if !finding.is_limit {
            return stream.window.postpone();
        }
        let more = stream.window.grow();
        if more > 0 {
            stream.sender.set_window(stream.window.size());
            self.put_window_update(finding.stream, more);
        }
    }
}
