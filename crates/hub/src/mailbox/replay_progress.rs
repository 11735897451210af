//! How far a stream has come: its cursor, and whether it is still sent the past.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::position::cursor::Cursor;
use crate::position::resume::Resume;

/// The phase of a stream between its client's past and the live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplayPhase {
    /// Live events are queued.
    Live,
    /// The next page is to be requested when everything queued is written. Live events are not
    /// queued: they will be in the page.
    Due,
    /// A page was requested.
    Requested,
}

// In the order written: the fields that an event needs are first, beside the queue of the stream.
#[repr(C)]
pub(super) struct ReplayProgress {
    phase: Cell<ReplayPhase>,
    // The ticket of the page that was requested last.
    ticket: Cell<u32>,
    /// Up to where events were queued, or dropped for newer ones.
    pub(super) cursor: Cursor,
    // What to request next.
    resume: RefCell<Option<Box<Resume>>>,
}

impl ReplayProgress {
    /// A stream at `beginning`, which is sent `resume` first.
    pub(super) fn new(beginning: Cursor, resume: Option<Resume>) -> Self {
        let phase = if resume.is_some() { ReplayPhase::Due } else { ReplayPhase::Live };
        // The client has everything up to this number. Its positions in logs come with the first page.
        if let Some(Resume::After { cursor, .. }) = &resume {
            beginning.move_to(cursor.number());
        }
        Self {
            phase: Cell::new(phase),
            ticket: Cell::new(0),
            cursor: beginning,
            resume: RefCell::new(resume.map(Box::new)),
        }
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.phase.get() != ReplayPhase::Live
    }

    /// Whether the page with this ticket is the one that was requested last.
    pub(super) fn awaits(&self, ticket: u64) -> bool {
        self.phase.get() == ReplayPhase::Requested && u64::from(self.ticket.get()) == ticket
    }

    /// Whether a page is to be requested when everything queued is written.
    pub(super) fn is_replay_due(&self) -> bool {
        self.phase.get() == ReplayPhase::Due
    }

    /// Takes what is to be requested, and the ticket for it.
    pub(super) fn take_replay(&self) -> Option<(Resume, u64)> {
        let resume = *self.resume.take()?;
        self.phase.set(ReplayPhase::Requested);
        self.ticket.set(self.ticket.get().wrapping_add(1));
        Some((resume, self.ticket.get().into()))
    }

    /// The past was sent: live events come after `number`.
    pub(super) fn go_live(&self, number: u64) {
        self.cursor.reach(number);
        self.phase.set(ReplayPhase::Live);
    }

    /// The next page is to begin after the cursor.
    pub(super) fn replay_from_here(&self, floors: Option<Arc<[u64]>>) {
        let resume = Resume::After { cursor: self.cursor.clone(), floors };
        self.resume.replace(Some(Box::new(resume)));
        self.phase.set(ReplayPhase::Due);
    }
}
