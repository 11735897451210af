//! The numbers of a run, which ids are made of.
//!
//! Every message, entry and gap, and every confirmation of a pub/sub subscription, takes the next number;
//! the gap for a message that is too large has the number of that message. So no two of them have the same,
//! and a client at a number has everything up to it, or was sent a gap.
//!
//! A message may come several times: on its channel and through patterns. All copies have its number,
//! and until something else comes, another copy may follow. So its number is not settled yet: a client
//! that is sent its position without an event is sent the number before.

/// The numbers given so far.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    newest: u64,
    // The newest message; `None` when no further copy of it can follow.
    message: Option<u64>,
}

impl Numbers {
    /// The first number is the one behind `newest`: those up to there are of an earlier hub.
    pub(super) fn begin_after(&mut self, newest: u64) {
        self.newest = self.newest.max(newest);
    }

    /// The newest number; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The number up to which everything has come, with all its copies.
    pub(super) fn settled(&self) -> u64 {
        self.message.map_or(self.newest, |message| message - 1)
    }

    /// The number of the message of which another copy may follow; otherwise the newest number.
    pub(super) fn message(&self) -> u64 {
        self.message.unwrap_or(self.newest)
    }

    /// Whether another copy of the newest message may follow.
    pub(super) fn is_message_open(&self) -> bool {
        self.message.is_some()
    }

    /// Gives a number to the first copy of a message.
    pub(super) fn begin_message(&mut self) {
        self.message = Some(self.next());
    }

    /// No further copy of the newest message can follow.
    pub(super) fn end_message(&mut self) {
        self.message = None;
    }

    /// Gives a number to a confirmation or a gap. It ends the copies of a message: nothing that the source has not
    /// sent behind them may take one.
    pub(super) fn take(&mut self) -> u64 {
        self.message = None;
        self.next()
    }

    /// Gives a number to an entry of a log, which may come between two copies of a message.
    pub(super) fn take_for_log(&mut self) -> u64 {
        self.next()
    }

    fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn a_message_is_settled_when_something_else_comes() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.take(), 1);
        numbers.begin_message();
        assert_eq!((numbers.message(), numbers.settled(), numbers.newest()), (2, 1, 2));
        assert_eq!(numbers.take_for_log(), 3);
        assert_eq!((numbers.message(), numbers.settled(), numbers.newest()), (2, 1, 3));
        numbers.begin_message();
        assert_eq!((numbers.message(), numbers.settled()), (4, 3));
        numbers.end_message();
        assert_eq!(numbers.settled(), 4);
        numbers.begin_message();
        assert_eq!((numbers.take(), numbers.settled()), (6, 6));
    }
}
