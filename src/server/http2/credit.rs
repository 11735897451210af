//! What the client of one connection may send on all of its streams (RFC 9113, section 6.9).
//!
//! A stream that does not read keeps what it was sent. If that came out of the window of the
//! connection, some such streams would stop all others. So what they keep is made up for out of
//! [`UploadMemory`], and the window of the connection stays open; and where the window of a stream has
//! [grown](Credit::grow), that of the connection has grown with it. Only when that memory is used up does
//! a connection have to do with what is its own.

use super::frame::MAX_31_BITS;
use crate::server::upload_memory::UploadMemory;

/// The window of a connection.
#[derive(Debug)]
pub(super) struct Credit {
    memory: UploadMemory,
    // What the connection has for itself, in octets.
    own: usize,
    // What is lent to it besides.
    lent: usize,
    // By how much the windows of its streams have grown: that is lent to it as long.
    grown: usize,
    // What the client may send.
    window: usize,
    // What it has sent and nobody has read.
    unread: usize,
}

impl Credit {
    /// The window of a new connection, in octets.
    pub(super) fn new(own: u32, memory: UploadMemory) -> Self {
        let own = own as usize;
        Self { memory, own, lent: 0, grown: 0, window: own, unread: 0 }
    }

    /// What the client may send, in octets.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// The client sends so much; returns whether it may.
    pub(super) fn receive(&mut self, octets: usize) -> bool {
        let Some(left) = self.window.checked_sub(octets) else { return false };
        self.window = left;
        self.unread += octets;
        true
    }

    /// So much of it has been read, or is thrown away.
    pub(super) fn read(&mut self, octets: usize) {
        debug_assert!(octets <= self.unread, "more is read than came");
        self.unread = self.unread.saturating_sub(octets);
    }

    /// The window of a stream is to grow; returns whether that of the connection can grow with it.
    pub(super) fn grow(&mut self, octets: usize) -> bool {
        let lent = self.memory.reserve(octets);
        if lent < octets {
            self.memory.release(lent);
            return false;
        }
        self.lent += lent;
        self.grown += octets;
        true
    }

    /// A stream whose window has grown does not need so much of it any more.
    pub(super) fn shrink(&mut self, octets: usize) {
        self.grown -= octets;
    }

    /// What the client may be told now that it may send more; `None`: it is not worth a frame.
    pub(super) fn update(&mut self) -> Option<usize> {
        let target = self.target();
        let missing = target.saturating_sub(self.window);
        let mut more = missing.min(self.spare());
        let is_short = self.window < target / 4;
        if more < target / 2 && is_short {
            let lent = self.memory.reserve(missing - more);
            self.lent += lent;
            more += lent;
        }
        let is_worth_it = more >= target / 2 || is_short && more > 0;
        if is_worth_it {
            self.window += more;
        }
        self.settle();
        is_worth_it.then_some(more)
    }

    /// How large the window is while nothing is unread: no larger than a window may be (RFC 9113, section
    /// 6.9.1).
    fn target(&self) -> usize {
        (self.own + self.grown).min(MAX_31_BITS as usize)
    }

    /// Neither with the client, nor with a stream.
    fn spare(&self) -> usize {
        self.own + self.lent - self.window - self.unread
    }

    /// Gives back what was lent and is not needed any more.
    fn settle(&mut self) {
        if self.lent > 0 {
            let needed = self.target().saturating_sub(self.window);
            let over = self.lent.min(self.spare().saturating_sub(needed));
            self.lent -= over;
            self.memory.release(over);
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.memory.release(self.lent);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Credit, MAX_31_BITS};
    use crate::metrics::Metrics;
    use crate::server::upload_memory::UploadMemory;

    const OWN: usize = 100_000;

    fn memory(most: usize) -> UploadMemory {
        let memory = UploadMemory::new(Metrics::new().expect("metrics"));
        memory.set_limit(most);
        memory
    }

    fn credit(memory: &UploadMemory) -> Credit {
        Credit::new(u32::try_from(OWN).expect("small"), memory.clone())
    }

    #[test]
    fn what_is_read_comes_back_when_it_is_worth_a_frame() {
        let memory = memory(0);
        let mut credit = credit(&memory);
        assert!(credit.receive(40_000));
        credit.read(40_000);
        assert_eq!(credit.update(), None);
        assert!(credit.receive(20_000));
        credit.read(20_000);
        assert_eq!(credit.update(), Some(60_000));
        assert!(!credit.receive(OWN + 1));
    }

    #[test]
    fn streams_that_do_not_read_stop_no_others_while_there_is_memory() {
        let memory = memory(10 * OWN);
        let mut credit = credit(&memory);
        for _ in 0..10 {
            assert!(credit.receive(80_000));
            assert!(credit.update().is_some_and(|more| more > 0));
        }
        credit.read(10 * 80_000);
        assert_eq!(credit.update(), None, "the client has all it may");
        assert_eq!(credit.lent, 0);
    }

    #[test]
    fn without_memory_a_connection_has_its_own() {
        let memory = memory(0);
        let mut credit = credit(&memory);
        assert!(credit.receive(OWN));
        assert_eq!(credit.update(), None);
        credit.read(1);
        assert_eq!(credit.update(), Some(1), "little, but it waits for it");
    }

    #[test]
    fn what_was_lent_for_a_stream_that_is_gone_comes_back_as_the_client_sends() {
        let memory = memory(OWN);
        let mut credit = credit(&memory);
        assert!(credit.grow(OWN) && !credit.grow(1));
        assert_eq!(credit.update(), Some(OWN));
        credit.shrink(OWN);
        assert_eq!((credit.update(), credit.lent), (None, OWN), "the client may still use it");
        assert!(credit.receive(OWN));
        credit.read(OWN);
        assert_eq!((credit.update(), credit.lent), (None, 0));
        assert_eq!(memory.reserve(OWN), OWN);
    }

    #[test]
    fn no_window_is_larger_than_the_standard_allows_however_large_its_parts_are() {
        let most = MAX_31_BITS as usize;
        for (own, grown) in [(most - 100, 4 << 20), (1 << 30, 100 << 20), (1 << 20, 4 << 20)] {
            let memory = memory(usize::MAX / 2);
            let own = u32::try_from(own).expect("31 bits");
            let mut credit = Credit::new(own, memory.clone());
            for _ in 0..1000 {
                assert!(credit.grow(grown));
                credit.update();
                assert!(credit.window <= most, "{} of {own}", credit.window);
                let sent = credit.window / 2;
                assert!(credit.receive(sent));
                credit.read(sent);
            }
            credit.update();
            assert!(credit.window <= most);
            drop(credit);
            assert_eq!(memory.reserve(usize::MAX / 2), usize::MAX / 2, "all of it has come back");
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
        fn all_connections_keep_to_what_there_is(most in 0..5 * OWN, steps in prop::collection::vec(step(), 1..200)) {
            let memory = memory(most);
            let mut credits = [(); 3].map(|()| credit(&memory));
            for (which, step) in steps {
                let credit = &mut credits[which];
                match step {
                    Step::Receive(octets) => {
                        let octets = octets.min(credit.window);
                        prop_assert!(credit.receive(octets));
                    }
                    Step::Read(octets) => credit.read(octets.min(credit.unread)),
                    Step::Grow(octets) => drop(credit.grow(octets)),
                    Step::Shrink(octets) => credit.shrink(octets.min(credit.grown)),
                }
                let had = credit.window;
                let more = credit.update();
                prop_assert_eq!(credit.window, had + more.unwrap_or(0));
                // What the client can make us hold.
                prop_assert!(credit.window + credit.unread <= OWN + credit.lent);
                if credit.unread == 0 {
                    prop_assert!(credit.window >= OWN / 4, "it waits for nothing");
                }
                let lent: usize = credits.iter().map(|credit| credit.lent).sum();
                prop_assert!(lent <= most);
                prop_assert_eq!(memory.reserve(0), 0);
            }
            drop(credits);
            prop_assert_eq!(memory.reserve(most), most, "all of it has come back");
        }
    }
}
