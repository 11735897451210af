//! Windows that grow with what is read.
//!
//! A client can send one window in each round trip, so a small window makes a far client slow. Whether
//! that is what holds a client back is measured: a PING goes out with an update of a stream's window,
//! its ACK tells how long a round trip takes, and where a whole window has been read within two of
//! them, the window doubles, up to `max_stream_window`. A body that is read or sent slowly does not get
//! there. One stream of a connection is measured at a time, and only while its window could grow.

use super::connection::Connection;
pub(super) use super::measured::{Measured, WINDOW_PING};
use crate::server::connection::Handler;

impl<H: Handler> Connection<H> {
    /// So much of this stream has been read, and its client is told to send more.
    pub(super) fn measure(&mut self, id: u32, read: usize) {
        match &mut self.measured {
            Some(measured) if measured.stream() == id => {
                measured.read(read);
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
                    self.measured = Some(Box::new(Measured::begin(id)));
                }
            }
        }
    }

    /// The client has acknowledged the PING.
    pub(super) fn note_round_trip(&mut self) {
        if let Some(measured) = &mut self.measured {
            measured.acknowledged();
            self.judge();
        }
    }

    /// Ends the measurement, if a window has been read or its stream is gone.
    fn judge(&mut self) {
        let measured = self.measured.as_deref().filter(|it| it.is_acknowledged());
        let Some(&measured) = measured else { return };
        let Some(stream) = self.streams.get_mut(measured.stream()) else {
            self.measured = None;
            return;
        };
        if !measured.is_complete(stream.receiving.window()) {
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
            self.sender.window_update(measured.stream(), by);
            self.update_credit();
        }
    }
}
