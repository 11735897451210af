//! What a copy knows of Redis and of the pump: it shows whether an unknown position exists anywhere. Pure: time is
//! passed in.

use tokio::time::Instant;

use super::log::Position;

/// When Redis was last read, and when the pump of the stream last wrote there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CopyFreshness {
    // When the last read that Redis has replied to began.
    read_at: Option<Instant>,
    // The end of the pump's lease, as that read found it.
    lease: u64,
    // The pump has written after this time.
    written_after: Option<Instant>,
}

impl CopyFreshness {
    /// Records a read that began at `began`, and found this lease.
    pub(super) fn read(&mut self, began: Instant, lease: u64) {
        if lease != self.lease {
            self.written_after = self.read_at;
        }
        (self.read_at, self.lease) = (Some(began), lease);
    }

    /// Whether a position is known not to exist, which a client requested at `asked` and which is still unknown.
    ///
    /// An event that a client has read at the pump's own gateway comes to Redis a moment later, or much later if that
    /// gateway is cut off. Only a pump that has written since is known to have sent it. An id of the backend may belong
    /// to another stream, so that its client would wait in vain: for such an id one read of Redis is enough.
    pub(super) fn refutes(&self, position: &Position, asked: Instant) -> bool {
        let since = match position {
            Position::Start | Position::After(_) => self.written_after,
            Position::AfterOwn(_) => self.read_at,
        };
        since.is_some_and(|since| since >= asked)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::CopyFreshness;
    use crate::service::kept::log::Position;

    #[test]
    fn a_number_is_unknown_for_certain_once_the_pump_has_written_since() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (number, own) = (Position::After(7), Position::AfterOwn(b"a".to_vec()));
        let mut freshness = CopyFreshness::default();
        assert!(
            !freshness.refutes(&number, at(0)) && !freshness.refutes(&own, at(0)),
            "nothing was read"
        );
        freshness.read(at(1), 100);
        assert!(!freshness.refutes(&number, at(1)), "that may have been written before");
        assert!(freshness.refutes(&own, at(1)) && !freshness.refutes(&own, at(2)));
        freshness.read(at(2), 100);
        assert!(!freshness.refutes(&number, at(1)), "nothing is new");
        freshness.read(at(3), 101);
        assert!(freshness.refutes(&number, at(1)) && freshness.refutes(&number, at(2)));
        assert!(
            !freshness.refutes(&number, at(3)),
            "between the last two reads, or before it asked"
        );
        freshness.read(at(4), 101);
        assert!(freshness.refutes(&number, at(2)), "what was written stays so");
    }
}
