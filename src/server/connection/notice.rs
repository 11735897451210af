//! How a connection's task is asked to end: a notice, and the waker of the task.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use super::cut_reason::CutReason;

/// A request to the task of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Notice {
    /// Finish requests in progress, accept no new ones, then close.
    Drain,
    /// Close now.
    Cut(CutReason),
}

/// The notice for one task. A cut replaces a drain; nothing replaces a cut.
#[derive(Debug, Default)]
pub(super) struct NoticeSlot {
    notice: Cell<Option<Notice>>,
    task: RefCell<Option<Waker>>,
}

impl NoticeSlot {
    pub(super) fn get(&self) -> Option<Notice> {
        self.notice.get()
    }

    /// Sets the notice without waking the task. Returns whether it is new: the caller then wakes.
    pub(super) fn set(&self, notice: Notice) -> bool {
        let is_new = match notice {
            Notice::Drain => self.notice.get().is_none(),
            Notice::Cut(_) => !matches!(self.notice.get(), Some(Notice::Cut(_))),
        };
        if is_new {
            self.notice.set(Some(notice));
        }
        is_new
    }

    pub(super) fn wake_task(&self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
    }

    /// Waits until the notice differs from `last_seen`.
    pub(super) fn poll_after(
        &self,
        last_seen: Option<Notice>,
        cx: &Context<'_>,
    ) -> Poll<Option<Notice>> {
        let notice = self.notice.get();
        if notice != last_seen {
            return Poll::Ready(notice);
        }
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
