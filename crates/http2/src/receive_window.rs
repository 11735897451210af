//! The receive window of a connection: what its client may send on all streams (RFC 9113, section
//! 6.9).
//!
//! A stream whose body is not read keeps its octets. If they used up the connection's window, a few
//! such streams would block all others. So the window is topped up for unread octets, and where the
//! windows of streams have [grown](ReceiveWindow::grow), it has grown with them. What goes beyond
//! the connection's own window is lent by the server. Only when it lends no more does a connection
//! have to do with its own.

use super::frame::MAX_31_BITS;
use super::server::Http2Server;

/// Lends octets beyond a connection's own window.
pub(crate) trait WindowLender {
    /// Reserves up to `octets`; returns how many.
    fn reserve(&self, octets: usize) -> usize;

    /// Releases octets that were reserved.
    fn release(&self, octets: usize);
}

impl<S: Http2Server> WindowLender for S {
    fn reserve(&self, octets: usize) -> usize {
        self.reserve_window(octets)
    }

    fn release(&self, octets: usize) {
        self.release_window(octets);
    }
}

/// The receive window of one connection. Before it is dropped, it must be
/// [given back](Self::give_back).
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    // The window that the connection always has, in octets.
    own: usize,
    // What the server lends it, in octets.
    lent: usize,
    // How far the windows of its streams have grown, in octets: a part of `lent`.
    grown: usize,
    // What the client may send, in octets.
    available: usize,
    // What the client has sent and nothing has read, in octets.
    unread: usize,
}

impl ReceiveWindow {
    /// The window of a new connection: `own` octets.
    pub(crate) fn new(own: u32) -> Self {
        let own = own as usize;
        Self { own, lent: 0, grown: 0, available: own, unread: 0 }
    }

    /// What the client may send, in octets.
    pub(crate) fn available(&self) -> usize {
        self.available
    }

    /// Takes received octets off the window; returns false if that is too small.
    pub(crate) fn receive(&mut self, octets: usize) -> bool {
        let Some(left) = self.available.checked_sub(octets) else { return false };
        self.available = left;
        self.unread += octets;
        true
    }

    /// Notes octets that were read or dropped.
    pub(crate) fn read(&mut self, octets: usize) {
        debug_assert!(octets <= self.unread, "more octets read than received");
        self.unread = self.unread.saturating_sub(octets);
    }

    /// Grows with the window of a stream; returns false if there is no memory to lend.
    pub(crate) fn grow(&mut self, octets: usize, lender: &impl WindowLender) -> bool {
        let lent = lender.reserve(octets);
        if lent < octets {
            lender.release(lent);
            return false;
        }
        self.lent += lent;
        self.grown += octets;
        true
    }

    /// Undoes [`grow`](Self::grow), wholly or in part.
    pub(crate) fn shrink(&mut self, octets: usize) {
        self.grown -= octets;
    }

    /// The increment of a WINDOW_UPDATE that is due now; `None` if it is not worth a frame.
    pub(crate) fn update(&mut self, lender: &impl WindowLender) -> Option<usize> {
        let target = self.target();
        let missing = target.saturating_sub(self.available);
        let mut more = missing.min(self.spare());
        let is_low = self.available < target / 4;
        if more < target / 2 && is_low {
            let lent = lender.reserve(missing - more);
            self.lent += lent;
            more += lent;
        }
        let is_worth_it = more >= target / 2 || is_low && more > 0;
        if is_worth_it {
            self.available += more;
        }
        self.settle(lender);
        is_worth_it.then_some(more)
    }

    /// The size of the window while nothing is unread, at most 2^31-1 (RFC 9113, section 6.9.1).
    fn target(&self) -> usize {
        (self.own + self.grown).min(MAX_31_BITS as usize)
    }

    /// Octets that neither the client may send nor a stream holds.
    fn spare(&self) -> usize {
        self.own + self.lent - self.available - self.unread
    }

    /// Gives back all that was lent: the connection ends.
    pub(crate) fn give_back(&mut self, lender: &impl WindowLender) {
        lender.release(std::mem::take(&mut self.lent));
    }

    /// Gives back what was lent and is no longer needed.
    fn settle(&mut self, lender: &impl WindowLender) {
        if self.lent > 0 {
            let needed = self.target().saturating_sub(self.available);
            let over = self.lent.min(self.spare().saturating_sub(needed));
            self.lent -= over;
            lender.release(over);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::{MAX_31_BITS, ReceiveWindow, WindowLender};

    const OWN: usize = 100_000;

    /// What can still be lent, in octets.
    #[derive(Clone)]
    struct TestMemory(Rc<Cell<usize>>);

    impl WindowLender for TestMemory {
        fn reserve(&self, octets: usize) -> usize {
            let lent = octets.min(self.0.get());
            self.0.set(self.0.get() - lent);
            lent
        }

        fn release(&self, octets: usize) {
            self.0.set(self.0.get() + octets);
        }
    }

    /// The window of a connection that borrows from the memory until it ends.
    struct TestWindow {
        window: ReceiveWindow,
        memory: TestMemory,
    }

    impl TestWindow {
        fn new(own: u32, memory: &TestMemory) -> Self {
            Self { window: ReceiveWindow::new(own), memory: memory.clone() }
        }

        fn grow(&mut self, octets: usize) -> bool {
            self.window.grow(octets, &self.memory)
        }

        fn update(&mut self) -> Option<usize> {
            self.window.update(&self.memory)
        }
    }

    impl Deref for TestWindow {
        type Target = ReceiveWindow;

        fn deref(&self) -> &ReceiveWindow {
            &self.window
        }
    }

    impl DerefMut for TestWindow {
        fn deref_mut(&mut self) -> &mut ReceiveWindow {
            &mut self.window
        }
    }

    impl Drop for TestWindow {
        fn drop(&mut self) {
            self.window.give_back(&self.memory);
        }
    }

    fn memory(most: usize) -> TestMemory {
        TestMemory(Rc::new(Cell::new(most)))
    }

    fn window(memory: &TestMemory) -> TestWindow {
        TestWindow::new(u32::try_from(OWN).expect("small"), memory)
    }

    #[test]
    fn octets_read_are_credited_once_they_are_worth_a_frame() {
        let memory = memory(0);
        let mut window = window(&memory);
        assert!(window.receive(40_000));
        window.read(40_000);
        assert_eq!(window.update(), None);
        assert!(window.receive(20_000));
        window.read(20_000);
        assert_eq!(window.update(), Some(60_000));
        assert!(!window.receive(OWN + 1));
    }

    #[test]
    fn streams_that_are_not_read_do_not_block_others_while_there_is_memory() {
        let memory = memory(10 * OWN);
        let mut window = window(&memory);
        for _ in 0..10 {
            assert!(window.receive(80_000));
            assert!(window.update().is_some_and(|more| more > 0));
        }
        window.read(10 * 80_000);
        assert_eq!(window.update(), None, "the window is full");
        assert_eq!(window.lent, 0);
    }

    #[test]
    fn a_connection_keeps_its_own_window_without_memory() {
        let memory = memory(0);
        let mut window = window(&memory);
        assert!(window.receive(OWN));
        assert_eq!(window.update(), None);
        window.read(1);
        assert_eq!(window.update(), Some(1), "blocked, so one octet is worth a frame");
    }

    #[test]
    fn memory_lent_for_a_closed_stream_returns_as_the_client_uses_up_the_window() {
        let memory = memory(OWN);
        let mut window = window(&memory);
        assert!(window.grow(OWN) && !window.grow(1));
        assert_eq!(window.update(), Some(OWN));
        window.shrink(OWN);
        assert_eq!((window.update(), window.lent), (None, OWN), "still in the client's window");
        assert!(window.receive(OWN));
        window.read(OWN);
        assert_eq!((window.update(), window.lent), (None, 0));
        assert_eq!(memory.reserve(OWN), OWN);
    }

    #[test]
    fn the_window_never_exceeds_2_to_the_31_minus_1() {
        let most = MAX_31_BITS as usize;
        for (own, grown) in [(most - 100, 4 << 20), (1 << 30, 100 << 20), (1 << 20, 4 << 20)] {
            let memory = memory(usize::MAX / 2);
            let own = u32::try_from(own).expect("31 bits");
            let mut window = TestWindow::new(own, &memory);
            for _ in 0..1000 {
                assert!(window.grow(grown));
                window.update();
                assert!(window.available <= most, "{} of {own}", window.available);
                let sent = window.available / 2;
                assert!(window.receive(sent));
                window.read(sent);
            }
            window.update();
            assert!(window.available <= most);
            drop(window);
            assert_eq!(memory.reserve(usize::MAX / 2), usize::MAX / 2, "not all was given back");
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Receive(usize),
        Read(usize),
        Grow(usize),
        Shrink(usize),
    }

    fn step() -> impl Strategy<Value = (usize, Step)> {
        let step = prop_oneof![
            (0..OWN).prop_map(Step::Receive),
            (0..OWN).prop_map(Step::Read),
            (0..OWN).prop_map(Step::Grow),
            (0..OWN).prop_map(Step::Shrink),
        ];
        (0..3_usize, step)
    }

    proptest! {
        #[test]
        fn all_connections_together_stay_within_the_memory(
            most in 0..5 * OWN,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let memory = memory(most);
            let mut windows = [(); 3].map(|()| window(&memory));
            for (which, step) in steps {
                let window = &mut windows[which];
                let (unread, grown) = (window.unread, window.grown);
                match step {
                    Step::Receive(octets) => {
                        let octets = octets.min(window.available);
                        prop_assert!(window.receive(octets));
                    }
                    Step::Read(octets) => window.read(octets.min(unread)),
                    Step::Grow(octets) => drop(window.grow(octets)),
                    Step::Shrink(octets) => window.shrink(octets.min(grown)),
                }
                let had = window.available;
                let more = window.update();
                prop_assert_eq!(window.available, had + more.unwrap_or(0));
                // The octets that a client can make us hold.
                prop_assert!(window.available + window.unread <= OWN + window.lent);
                if window.unread == 0 {
                    prop_assert!(window.available >= OWN / 4, "blocked although nothing is unread");
                }
                let lent: usize = windows.iter().map(|window| window.lent).sum();
                prop_assert!(lent <= most);
                prop_assert_eq!(memory.reserve(0), 0);
            }
            drop(windows);
            prop_assert_eq!(memory.reserve(most), most, "not all was given back");
        }
    }
}
