//! The rest of a request that nobody reads any more, because it has been answered.
//!
//! It is read and thrown away for a while. A connection that is closed while something unread lies in
//! its socket is reset, and with the reset a client loses a response that it has not read: many send
//! all of a body before they look for one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Body as _;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep};

use crate::server::transport::Transport;

/// A client that sends nothing for so long has sent all that it will. As nginx has it
/// (`lingering_timeout`).
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// For how long the rest of a request is read.
#[derive(Debug)]
pub(super) struct Patience {
    end: Instant,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    fn new(at_most: Duration) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep(MAX_PAUSE.min(at_most)));
        Self { end: now + at_most, last: now, timer }
    }

    /// Something has come.
    fn renew(&mut self) {
        self.last = Instant::now();
    }

    /// Ready when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = self.end.min(self.last + MAX_PAUSE);
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// The rest of a body.
#[derive(Debug)]
pub(super) struct Leftover {
    body: Incoming,
    // Begins when it is first polled: where it is dropped there need be no timers.
    patience: Option<Patience>,
}

impl Leftover {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, patience: None }
    }

    /// Reads on, for `at_most`. Ready when that is over: whether all of it was read.
    pub(super) fn poll(&mut self, at_most: Duration, cx: &mut Context<'_>) -> Poll<bool> {
        let patience = self.patience.get_or_insert_with(|| Patience::new(at_most));
        // Only as much as comes: a client that sends without a pause is not read without an end.
        if patience.end <= Instant::now() {
            return Poll::Ready(false);
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => patience.renew(),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Pending => return patience.poll(cx).map(|()| false),
            }
        }
    }
}

/// Closes a connection whose client may still be sending: says that nothing more will be written,
/// and reads on until the client has closed too, for `at_most`. Returns whether it has.
pub(in crate::server) async fn close(mut transport: Transport, at_most: Duration) -> bool {
    /// What is read at once.
    const PIECE: usize = 16 << 10;
    // One that is gone already needs no end.
    if transport.shutdown().await.is_err() {
        return true;
    }
    let end = Instant::now() + at_most;
    let mut piece = vec![0; PIECE];
    loop {
        let until = end.min(Instant::now() + MAX_PAUSE);
        match tokio::time::timeout_at(until, transport.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) if Instant::now() < end => {}
            _too_late => return false,
        }
    }
}
