//! Receives the body of a request, within its limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::refusal::PublishRefusal;
use crate::server::connection::{BodyError, has_client_left};
use crate::source::publishing::Reservation;

/// From the header of the request to the end of its body.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the body, of at most `most` bytes. What has arrived is counted in `memory`.
///
/// # Errors
/// The body is too large, too slow or incomplete, or all the memory is in use.
pub(super) async fn receive<B>(
    body: B,
    most: usize,
    memory: &mut Reservation,
) -> Result<Bytes, PublishRefusal>
where
    B: Body<Data = Bytes, Error: Into<BodyError>>,
{
    if body.size_hint().lower() > most as u64 {
        return Err(PublishRefusal::BodyTooLarge(most));
    }
    let receiving = collect(body, most, memory);
    let received = tokio::time::timeout(TIMEOUT, receiving).await;
    received.unwrap_or(Err(PublishRefusal::Slow(TIMEOUT.as_secs())))
}

async fn collect<B>(body: B, most: usize, memory: &mut Reservation) -> Result<Bytes, PublishRefusal>
where
    B: Body<Data = Bytes, Error: Into<BodyError>>,
{
    let mut body = std::pin::pin!(body);
    let mut received = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let error: BodyError = error.into();
            match has_client_left(&*error) {
                true => PublishRefusal::Incomplete,
                false => PublishRefusal::Invalid("the body is malformed".to_owned()),
            }
        })?;
        // Trailers say nothing about a message.
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - received.len() {
            return Err(PublishRefusal::BodyTooLarge(most));
        }
        memory.grow(data.len())?;
        received.extend_from_slice(&data);
    }
    Ok(received.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::{Body, Frame};

    use super::receive;
    use crate::service::publish::PublishRefusal;
    use crate::source::publishing::Publisher;

    /// A body without a length, in these pieces; pending behind them if it never ends.
    struct Pieces(Vec<&'static str>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop() {
                Some(piece) => {
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
                }
                None if self.1 => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_limit_that_its_length_or_its_bytes_reach() {
        let (publisher, _jobs) = Publisher::new(1 << 20);
        let mut memory = publisher.reservation();
        let whole = Full::new(Bytes::from_static(b"12345"));
        assert_eq!(receive(whole.clone(), 5, &mut memory).await, Ok("12345".into()));
        let refused = Err(PublishRefusal::BodyTooLarge(4));
        assert_eq!(receive(whole, 4, &mut memory).await, refused);
        let pieces = |never_ends| Pieces(vec!["345", "12"], never_ends);
        assert_eq!(receive(pieces(false), 5, &mut memory).await, Ok("12345".into()));
        assert_eq!(receive(pieces(false), 4, &mut memory).await, refused);
        assert_eq!(receive(pieces(true), 5, &mut memory).await, Err(PublishRefusal::Slow(30)));
    }
}
