//! What a backend may send on one stream before its client has read it (RFC 9113, section 5.2).
//!
//! A stream begins with [`STREAM_WINDOW`], which is all that it holds for a client that does not read.
//! The window doubles while it limits a download whose client reads as fast as it arrives
//! ([`Measurement`](crate::server::http2::measured::Measurement)), up to [`MAX_STREAM_WINDOW`]. What it has grown by is lent by [`UploadMemory`], one
//! amount for all connections, and given back with the stream.

use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::Driver;
use super::stream::Receiving;
use crate::server::http2::measured::WINDOW_PING;
use crate::server::upload_memory::UploadMemory;

/// The window of a new stream, in octets.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
/// The largest window that a stream grows to, in octets.
const MAX_STREAM_WINDOW: usize = 256 << 10;
/// A stream whose window was not the limit is measured again when this many windows have been read.
const PATIENCE: usize = 8;

/// The window of one stream.
#[derive(Debug)]
pub(super) struct Window {
    // What the backend may send now, in octets.
    left: i64,
    // What it may send when everything has been read.
    size: usize,
    // By how much the window has grown: that is lent.
    lent: usize,
    // What is to be read before the stream is measured again, in octets.
    unmeasured: usize,
    memory: UploadMemory,
}

impl Window {
    /// The window of a new stream.
    pub(super) fn new(memory: UploadMemory) -> Self {
        let size = STREAM_WINDOW as usize;
        Self { left: i64::from(STREAM_WINDOW), size, lent: 0, unmeasured: 0, memory }
    }

    /// The backend sends this many octets; returns whether it may.
    pub(super) fn receive(&mut self, octets: usize) -> bool {
        self.left -= octets as i64;
        self.left >= 0
    }

    /// The backend is told that it may send this many octets more, which have been read.
    pub(super) fn credit(&mut self, octets: usize) {
        self.left += octets as i64;
        debug_assert!(self.left <= self.size as i64, "credited twice");
    }

    /// Makes the window larger, as far as there is memory; returns by how many octets.
    fn grow(&mut self) -> usize {
        let wanted = self.size.min(MAX_STREAM_WINDOW - self.size);
        let lent = self.memory.reserve(wanted);
        if lent < wanted {
            self.memory.release(lent);
            self.defer();
            return 0;
        }
        self.lent += lent;
        self.size += lent;
        self.left += lent as i64;
        lent
    }

    fn defer(&mut self) {
        self.unmeasured = self.size * PATIENCE;
    }

    /// Whether the stream is to be measured, now that this many octets have been read. `rest` is what
    /// is still to arrive, where that is known: a window does not grow beyond it.
    fn wants_measure(&mut self, read: usize, rest: Option<u64>) -> bool {
        self.unmeasured = self.unmeasured.saturating_sub(read);
        let is_enough =
            rest.is_some_and(|rest| i64::try_from(rest).is_ok_and(|it| it <= self.left));
        self.unmeasured == 0 && self.size < MAX_STREAM_WINDOW && !is_enough
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.lent > 0 {
            self.memory.release(self.lent);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// This many octets of a stream have been read, and credited.
    pub(super) fn measure(&mut self, id: u32, read: usize) {
        if self.measurement.is_of(id) {
            self.measurement.read(read);
            return self.end_measurement();
        }
        if !self.measurement.is_free() {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Receiving::Body { left } = stream.receiving else { return };
        if stream.window.wants_measure(read, left) {
            self.ping(WINDOW_PING, false);
            self.measurement.begin(id);
        }
    }

    /// The backend has acknowledged the PING.
    pub(super) fn note_round_trip(&mut self) {
        self.measurement.acknowledged();
        self.end_measurement();
    }

    fn end_measurement(&mut self) {
        let window = |id| self.streams.get(&id).map(|stream| stream.window.size);
        let Some(finding) = self.measurement.end(window) else { return };
        let Some(stream) = self.streams.get_mut(&finding.stream) else { return };
        if !finding.is_limit {
            return stream.window.defer();
        }
        let more = stream.window.grow();
        if more > 0 {
            stream.feed.set_window(stream.window.size);
            self.put_window_update(finding.stream, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_STREAM_WINDOW, PATIENCE, STREAM_WINDOW, Window};
    use crate::metrics::Metrics;
    use crate::server::upload_memory::UploadMemory;

    const FIRST: usize = STREAM_WINDOW as usize;

    fn memory(most: usize) -> UploadMemory {
        let memory = UploadMemory::new(Metrics::new().expect("metrics"));
        memory.set_limit(most);
        memory
    }

    #[test]
    fn a_window_doubles_to_its_limit_and_gives_back_what_was_lent() {
        let memory = memory(MAX_STREAM_WINDOW);
        let mut window = Window::new(memory.clone());
        assert_eq!([window.grow(), window.grow(), window.grow()], [FIRST, 2 * FIRST, 0]);
        assert!(!window.wants_measure(1, None), "it is as large as it may be");
        assert!(window.receive(MAX_STREAM_WINDOW) && !window.receive(1));
        assert_eq!(memory.reserve(MAX_STREAM_WINDOW), FIRST);
        drop(window);
        assert_eq!(memory.reserve(MAX_STREAM_WINDOW), MAX_STREAM_WINDOW - FIRST);
    }

    #[test]
    fn without_memory_a_window_keeps_its_size_and_does_not_ask_again_soon() {
        let memory = memory(FIRST - 1);
        let mut window = Window::new(memory.clone());
        assert!(window.wants_measure(1, None));
        assert_eq!(window.grow(), 0);
        assert_eq!(memory.reserve(FIRST), FIRST - 1, "nothing of it is kept");
        assert!(!window.wants_measure(PATIENCE * FIRST - 1, None));
        assert!(window.wants_measure(1, None));
    }

    #[test]
    fn a_window_does_not_grow_for_a_body_that_ends_within_it() {
        let mut window = Window::new(memory(MAX_STREAM_WINDOW));
        assert!(!window.wants_measure(1, Some(FIRST as u64)));
        assert!(window.wants_measure(1, Some(FIRST as u64 + 1)));
    }
}
