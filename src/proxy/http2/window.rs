//! The flow-control window of a stream for receiving (RFC 9113, section 5.2).
//!
//! A stream starts with [`STREAM_WINDOW`], which bounds what is buffered for a client that does not
//! read. The window doubles while it limits a download whose client reads as fast as data arrives
//! ([`WindowMeasurement`](ssegate_http2::window_measurement::WindowMeasurement)), up to [`MAX_STREAM_WINDOW`]. The
//! growth is borrowed from [`UploadMemory`], one budget for all connections, and returned when the
//! stream ends.

use crate::server::upload_memory::UploadMemory;

/// The window of a new stream, in octets.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
/// The largest window that a stream grows to, in octets.
const MAX_STREAM_WINDOW: usize = 256 << 10;
/// A stream whose window was not the bottleneck is measured again after this many windows were
/// read.
const REMEASURE_AFTER: usize = 8;

/// The receive window of one stream.
#[derive(Debug)]
pub(super) struct Window {
    // What the backend may send now, in octets.
    left: i64,
    // The window when everything has been read, in octets.
    size: usize,
    // The part of the size that is borrowed, in octets.
    borrowed: usize,
    // Octets to read before the next measurement.
    unmeasured: usize,
    memory: UploadMemory,
}

impl Window {
    /// The window of a new stream.
    pub(super) fn new(memory: UploadMemory) -> Self {
        let size = STREAM_WINDOW as usize;
        Self { left: i64::from(STREAM_WINDOW), size, borrowed: 0, unmeasured: 0, memory }
    }

    /// Its size when everything has been read, in octets.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes received octets from the window; returns `false` if the backend exceeded it.
    pub(super) fn receive(&mut self, octets: usize) -> bool {
        self.left -= octets as i64;
        self.left >= 0
    }

    /// Returns credit for octets that were read. The caller sends the WINDOW_UPDATE.
    pub(super) fn credit(&mut self, octets: usize) {
        self.left += octets as i64;
        debug_assert!(self.left <= self.size as i64, "credited twice");
    }

    /// Doubles the window if there is memory; returns the growth in octets.
    pub(super) fn grow(&mut self) -> usize {
        let wanted = self.size.min(MAX_STREAM_WINDOW - self.size);
        let borrowed = self.memory.reserve(wanted);
        if borrowed < wanted {
            self.memory.release(borrowed);
            self.postpone();
            return 0;
        }
        self.borrowed += borrowed;
        self.size += borrowed;
        self.left += borrowed as i64;
        borrowed
    }

    /// Postpones the next measurement.
    pub(super) fn postpone(&mut self) {
        self.unmeasured = self.size * REMEASURE_AFTER;
    }

    /// Records octets read; returns whether to measure the stream now. `rest` is the unreceived
    /// rest of the body, if known: a window that covers it does not grow.
    pub(super) fn should_measure(&mut self, read: usize, rest: Option<u64>) -> bool {
        self.unmeasured = self.unmeasured.saturating_sub(read);
        let is_enough =
            rest.is_some_and(|rest| i64::try_from(rest).is_ok_and(|it| it <= self.left));
        self.unmeasured == 0 && self.size < MAX_STREAM_WINDOW && !is_enough
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.borrowed > 0 {
            self.memory.release(self.borrowed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_STREAM_WINDOW, REMEASURE_AFTER, STREAM_WINDOW, Window};
    use crate::metrics::Metrics;
    use crate::server::upload_memory::UploadMemory;

    const FIRST: usize = STREAM_WINDOW as usize;

    fn memory(most: usize) -> UploadMemory {
        let memory = UploadMemory::new(Metrics::new().expect("metrics"));
        memory.set_limit(most);
        memory
    }

    #[test]
    fn a_window_doubles_to_its_limit_and_returns_its_memory() {
        let memory = memory(MAX_STREAM_WINDOW);
        let mut window = Window::new(memory.clone());
        assert_eq!([window.grow(), window.grow(), window.grow()], [FIRST, 2 * FIRST, 0]);
        assert!(!window.should_measure(1, None), "already at the maximum");
        assert!(window.receive(MAX_STREAM_WINDOW) && !window.receive(1));
        assert_eq!(memory.reserve(MAX_STREAM_WINDOW), FIRST);
        drop(window);
        assert_eq!(memory.reserve(MAX_STREAM_WINDOW), MAX_STREAM_WINDOW - FIRST);
    }

    #[test]
    fn without_memory_a_window_keeps_its_size_and_is_not_measured_again_soon() {
        let memory = memory(FIRST - 1);
        let mut window = Window::new(memory.clone());
        assert!(window.should_measure(1, None));
        assert_eq!(window.grow(), 0);
        assert_eq!(memory.reserve(FIRST), FIRST - 1, "a partial loan was returned");
        assert!(!window.should_measure(REMEASURE_AFTER * FIRST - 1, None));
        assert!(window.should_measure(1, None));
    }

    #[test]
    fn a_window_does_not_grow_for_a_body_that_ends_within_it() {
        let mut window = Window::new(memory(MAX_STREAM_WINDOW));
        assert!(!window.should_measure(1, Some(FIRST as u64)));
        assert!(window.should_measure(1, Some(FIRST as u64 + 1)));
    }
}
