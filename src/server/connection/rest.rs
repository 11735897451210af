//! The second task of a connection: HTTP/2, or one event stream over HTTP/1.1.
//!
//! Runs in a task of its own, so that the memory of the handshake and of the first request is
//! freed.
// Hand-written futures, no `async fn`: an `async fn` stores its arguments twice, and so does each
// that awaits it. That spreads the few bytes that an event touches over more cache lines.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::state::{ConnectionState, CutReason, Notice};
use super::{Handler, count_fault_of_tls};
use crate::server::carrier::{Carried, Carrier, Frames};
use crate::server::http2;
use crate::server::shard_server::ShardServer;

/// What a second task runs.
pub(super) trait Purpose {
    /// Runs until the end, or until `poll_cut_off` returns a reason to close.
    fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut_off: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<Carried<C>>;
}

impl<B: Frames> Purpose for Carrier<B> {
    fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut_off: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<Carried<C>> {
        self.poll(context, poll_cut_off)
    }
}

impl<H: Handler> Purpose for http2::Connection<H> {
    fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut_off: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<Carried<C>> {
        let is_called = self.take_call();
        if is_called && let Poll::Ready(reason) = poll_cut_off(context) {
            return Poll::Ready(Carried::CutOff(reason));
        }
        self.poll(is_called, context).map(Carried::Ended)
    }
}

/// The second task of a connection. Drops `places` when the connection ends.
pub(super) struct Rest<H, W, P> {
    purpose: W,
    state: Rc<ConnectionState>,
    // The last notice seen.
    known: Option<Notice>,
    shard: ShardServer<H>,
    _places: P,
}

impl<H, W, P> Rest<H, W, P> {
    pub(super) fn new(
        purpose: W,
        state: Rc<ConnectionState>,
        shard: ShardServer<H>,
        places: P,
    ) -> Self {
        Self { purpose, state, known: None, shard, _places: places }
    }
}

impl<H: Handler, W: Purpose + Unpin, P: Unpin> Future for Rest<H, W, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { purpose, state, known, shard, .. } = self.get_mut();
        match ready!(purpose.poll(context, |context| state.poll_cut_off(known, context))) {
            Carried::Ended(Ok(())) => {}
            Carried::Ended(Err(error)) => {
                count_fault_of_tls(&error, state, shard.metrics());
                tracing::debug!(peer = %state.peer, %error, "connection failed");
            }
            Carried::Broken => shard.metrics().connection_cut(CutReason::Stream.as_str()),
            Carried::CutOff(reason) => shard.metrics().connection_cut(reason.as_str()),
        }
        Poll::Ready(())
    }
}
