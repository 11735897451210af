//! The numbers of a run: what clients' positions are made of.
//!
//! Everything that happens takes the next one: each message, each confirmation of a subscription,
//! each gap. So no two of them share a place, and a client that stands at a number has seen, or was
//! told of, everything up to it.
//!
//! A message may be heard several times: on its channel and through patterns. All its copies have
//! its number, and until something else is heard, another copy may follow. So its own number is not
//! settled yet: a client that is told a position is told the one before, unless it has the message.

/// The numbers given so far.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    newest: u64,
    // The message that is being heard; `None` when no further copy of it can follow.
    message: Option<u64>,
}

impl Numbers {
    /// The newest number that was given; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Everything up to this number has been heard on all its channels.
    pub(super) fn settled(&self) -> u64 {
        self.message.map_or(self.newest, |message| message - 1)
    }

    /// The number of the message that is being heard; where none is, the newest.
    pub(super) fn message(&self) -> u64 {
        self.message.unwrap_or(self.newest)
    }

    /// A message is heard for the first time.
    pub(super) fn begin_message(&mut self) {
        self.message = Some(self.next());
    }

    /// No further copy of the newest message can follow.
    pub(super) fn end_message(&mut self) {
        self.message = None;
    }

    /// For what happens in the order of messages and is none: a confirmation, a gap.
    pub(super) fn take(&mut self) -> u64 {
        self.message = None;
        self.next()
    }

    /// For what comes another way, perhaps between two copies of a message: an entry of a log.
    pub(super) fn take_aside(&mut self) -> u64 {
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
    fn a_message_is_settled_when_something_else_is_heard() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.take(), 1);
        numbers.begin_message();
        assert_eq!((numbers.message(), numbers.settled(), numbers.newest()), (2, 1, 2));
        assert_eq!(numbers.take_aside(), 3);
        assert_eq!((numbers.message(), numbers.settled(), numbers.newest()), (2, 1, 3));
        numbers.begin_message();
        assert_eq!((numbers.message(), numbers.settled()), (4, 3));
        numbers.end_message();
        assert_eq!(numbers.settled(), 4);
        numbers.begin_message();
        assert_eq!((numbers.take(), numbers.settled()), (6, 6));
    }
}
