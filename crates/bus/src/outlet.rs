//! How the process itself receives messages: the publisher calls it, without a socket.

use std::cell::RefCell;
use std::rc::Rc;

use ssegate_resp::Payload;

/// A subscriber inside this process.
///
/// Its methods run before the publisher gets its reply, so they must return quickly. They may
/// change subscriptions. Messages that they publish are not delivered to the same outlet.
pub trait Outlet {
    /// Receives a message: once for the channel if it is subscribed to, then once for each pattern
    /// that matches, as in Redis. The slices and the payload belong to a read buffer: copy what is
    /// kept.
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload);

    /// Passes on the messages received since the last call: no more are ready.
    fn flush(&mut self) {}
}

/// An outlet, called without a borrow of the broker, and never while it is already running.
pub(super) type SharedOutlet = Rc<RefCell<dyn Outlet>>;
