//! Reads of logs that wait until Redis can be asked. Their clients may leave meanwhile.

/// The fewest reads at which abandoned ones are looked for.
const LEAST: usize = 64;

/// Reads that wait. Abandoned ones are dropped before there are more than twice as many as are awaited: so clients that
/// reconnect again and again cannot fill the memory.
#[derive(Debug)]
pub(super) struct AwaitedReads<R> {
    reads: Vec<R>,
    // Abandoned reads are looked for at this number.
    most: usize,
}

impl<R> Default for AwaitedReads<R> {
    fn default() -> Self {
        Self { reads: Vec::new(), most: LEAST }
    }
}

impl<R> AwaitedReads<R> {
    /// Adds a read.
    pub(super) fn push(&mut self, read: R, is_awaited: impl Fn(&R) -> bool) {
        if self.reads.len() >= self.most {
            self.prune(is_awaited);
        }
        self.reads.push(read);
    }

    /// Drops those that nobody awaits any more.
    pub(super) fn prune(&mut self, is_awaited: impl Fn(&R) -> bool) {
        self.reads.retain(is_awaited);
        self.most = LEAST.max(2 * self.reads.len());
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> Vec<R> {
        std::mem::take(self).reads
    }

    /// Takes those that `is_taken` says, in order.
    pub(super) fn take_if(&mut self, mut is_taken: impl FnMut(&R) -> bool) -> Vec<R> {
        let taken = self.reads.extract_if(.., |read| is_taken(read)).collect();
        // Those that are left may all be abandoned: the next one that is added has them checked.
        self.most = self.most.min(LEAST.max(self.reads.len()));
        taken
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{AwaitedReads, LEAST};

    #[test]
    fn however_often_clients_come_back_no_more_wait_than_about_twice_as_many_as_there_are() {
        let mut reads = AwaitedReads::default();
        let (clients, looks) = (100, Cell::new(0));
        for read in 0..100_000 {
            // Of each client the newest counts.
            reads.push(read, |one| {
                looks.set(looks.get() + 1);
                one + clients > read
            });
            assert!(reads.reads.len() <= 2 * 100, "{}", reads.reads.len());
        }
        assert!(looks.get() < 3 * 100_000, "{} looks", looks.get());
        reads.prune(|one| *one >= 99_990);
        assert_eq!(reads.take_if(|read| read % 2 == 0).len(), 5);
        assert_eq!(reads.take(), [99_991, 99_993, 99_995, 99_997, 99_999]);
        assert!(reads.is_empty());
        // After many have waited and were served, a few clients may not fill what those had needed.
        (0..10_000).for_each(|read| reads.push(read, |_| true));
        assert_eq!(reads.take_if(|read| *read < 9_900).len(), 9_900);
        for read in 10_000..100_000 {
            reads.push(read, |one| one + clients > read);
            assert!(reads.reads.len() <= 2 * 100, "{}", reads.reads.len());
        }
        assert!(reads.take().len() >= 100, "those that are awaited stay");
        (0..1000).for_each(|read| reads.push(read, |_| false));
        assert!(reads.reads.len() <= LEAST);
    }
}
