//! Lingering close: reads and discards the rest of a request after its response.
//!
//! Closing a socket with unread bytes makes the kernel send a RST, and a RST can destroy a response
//! that the client has not read yet. Many clients send the whole body before they read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Body as _;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep};

use crate::server::transport::Transport;

/// A client that pauses longer than this is not waited for (nginx: `lingering_timeout`, 5 s).
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The time limits of a lingering close: in total, and without new bytes.
#[derive(Debug)]
pub(super) struct LingerTimer {
    end: Instant,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl LingerTimer {
    fn new(at_most: Duration) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep(MAX_PAUSE.min(at_most)));
        Self { end: now + at_most, last: now, timer }
    }

    /// Bytes have arrived.
    fn renew(&mut self) {
        self.last = Instant::now();
    }

    /// Ready when a limit has passed.
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

/// The unread rest of a request body.
#[derive(Debug)]
pub(super) struct UnreadBody {
    body: Incoming,
    // Created on the first poll: `new` runs when a body is dropped, possibly outside a runtime.
    timer: Option<LingerTimer>,
}

impl UnreadBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, timer: None }
    }

    /// Reads and discards, for at most `at_most`. Returns whether the body was read to its end.
    pub(super) fn poll(&mut self, at_most: Duration, cx: &mut Context<'_>) -> Poll<bool> {
        let timer = self.timer.get_or_insert_with(|| LingerTimer::new(at_most));
        // Checked first: a client that sends without a pause must not be read forever.
        if timer.end <= Instant::now() {
            return Poll::Ready(false);
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => timer.renew(),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Pending => return timer.poll(cx).map(|()| false),
            }
        }
    }
}

/// Writes the last response on a connection, and shuts down the sending side, within `at_most`. A client that has
/// already left does not receive it.
pub(in crate::server) async fn write_last(
    transport: &mut Transport,
    response: &[u8],
    at_most: Duration,
) {
    let writing = async {
        transport.write_all(response).await?;
        transport.flush().await?;
        transport.shutdown().await
    };
    // The connection ends in either case.
    drop(tokio::time::timeout(at_most, writing).await);
}

/// Closes a connection whose client may still be sending: shuts down the sending side, then reads
/// and discards until the client closes, for at most `at_most`. Returns whether the client closed.
pub(in crate::server) async fn close_lingering(
    mut transport: Transport,
    at_most: Duration,
) -> bool {
    /// Bytes per read.
    const READ_BYTES: usize = 16 << 10;
    // Fails if the client has already closed or reset the connection.
    if transport.shutdown().await.is_err() {
        return true;
    }
    let end = Instant::now() + at_most;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let until = end.min(Instant::now() + MAX_PAUSE);
        match tokio::time::timeout_at(until, transport.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) if Instant::now() < end => {}
            _too_late => return false,
        }
    }
}
