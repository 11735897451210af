//! The second task of a connection: HTTP/2, or one event stream over HTTP/1.1.
//!
//! Runs in a task of its own, so that the memory of the handshake and of the first request is
//! freed.
// Hand-written futures, no `async fn`: an `async fn` stores its arguments twice, and so does each
// that awaits it. That spreads the few bytes that an event touches over more cache lines.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ssegate_http2::Connection;

use super::http2::Http2Link;
use super::{ConnectionState, CutReason, Handler, Notice, count_tls_error};
use crate::server::carrier::{Carrier, CarrierEnd, FramedBody};
use crate::server::shard_context::ShardContext;
use crate::server::transport::Transport;

/// What a second task runs.
pub(super) trait ConnectionDriver {
    /// Runs until the end, or until `poll_cut` returns a reason to close.
    fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<CarrierEnd<C>>;
}

impl<B: FramedBody> ConnectionDriver for Carrier<B> {
    fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<CarrierEnd<C>> {
        self.poll(context, poll_cut)
    }
}

impl<H: Handler> ConnectionDriver for Connection<Http2Link<H>, Transport> {
    fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<CarrierEnd<C>> {
        let has_attention = self.server().take_attention();
        if has_attention && let Poll::Ready(reason) = poll_cut(context) {
            return Poll::Ready(CarrierEnd::Cut(reason));
        }
        self.poll(has_attention, context).map(CarrierEnd::Done)
    }
}

/// The second task of a connection. Drops `guards` when the connection ends.
pub(super) struct ConnectionTask<H, W, P> {
    driver: W,
    state: Rc<ConnectionState>,
    // The last notice seen.
    last_seen: Option<Notice>,
    shard: ShardContext<H>,
    _guards: P,
}

impl<H, W, P> ConnectionTask<H, W, P> {
    pub(super) fn new(
        driver: W,
        state: Rc<ConnectionState>,
        shard: ShardContext<H>,
        guards: P,
    ) -> Self {
        Self { driver, state, last_seen: None, shard, _guards: guards }
    }
}

impl<H: Handler, W: ConnectionDriver + Unpin, P: Unpin> Future for ConnectionTask<H, W, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { driver, state, last_seen, shard, .. } = self.get_mut();
        match ready!(driver.poll(context, |context| state.poll_cut(last_seen, context))) {
            CarrierEnd::Done(Ok(())) => {}
            CarrierEnd::Done(Err(error)) => {
                count_tls_error(&error, state, shard.metrics());
                tracing::debug!(peer = %state.peer(), %error, "connection failed");
            }
            CarrierEnd::BodyFailed => shard.metrics().connection_cut(CutReason::Stream.as_str()),
            CarrierEnd::Cut(reason) => shard.metrics().connection_cut(reason.as_str()),
        }
        Poll::Ready(())
    }
}
