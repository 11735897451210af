//! When the parts of a stream arrive: this shows whether something on the way buffers the stream.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ssegate::http_client::describe;
use tokio::time::{Instant, timeout_at};

/// When the parts of a body came, after the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The header.
    pub(super) head: Duration,
    /// Each part of the body that came by itself: when, and how many bytes.
    pub(super) parts: Vec<(Duration, usize)>,
    /// The end of the body, and why it broke off, if it did; `None`: it was still open.
    pub(super) end: Option<(Duration, Option<String>)>,
}

/// The most parts that are noted.
const MAX_PARTS: usize = 10_000;

impl Arrival {
    /// Reads `body`, whose header has come, until it ends, until `is_enough`, or for `limit` from now. The request
    /// began at `start`.
    pub(super) async fn watch(
        body: &mut Incoming,
        start: Instant,
        (limit, is_enough): (Duration, impl Fn(&Self) -> bool),
    ) -> Self {
        let deadline = Instant::now() + limit;
        let mut arrival = Self { head: start.elapsed(), ..Self::default() };
        while arrival.parts.len() < MAX_PARTS && !is_enough(&arrival) {
            let Ok(frame) = timeout_at(deadline, body.frame()).await else { break };
            match frame {
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().map(|data| data.len()).unwrap_or_default();
                    if bytes > 0 {
                        arrival.parts.push((start.elapsed(), bytes));
                    }
                }
                Some(Err(error)) => {
                    arrival.end = Some((start.elapsed(), Some(describe(&error))));
                    break;
                }
                None => {
                    arrival.end = Some((start.elapsed(), None));
                    break;
                }
            }
        }
        arrival
    }

    /// When the first part of the body came.
    pub(super) fn first(&self) -> Option<Duration> {
        self.parts.first().map(|(at, _)| *at)
    }

    /// When the first part arrived that is at least `by` later than the very first one.
    pub(super) fn later(&self, by: Duration) -> Option<Duration> {
        let first = self.first()?;
        self.parts.iter().map(|(at, _)| *at).find(|at| *at >= first + by)
    }

    /// Whether all parts arrived together at the end, and not soon after the request: something has buffered them.
    pub(super) fn came_at_once(&self) -> bool {
        /// A response that is made within this is not a stream.
        const LEAST: Duration = Duration::from_millis(500);
        /// Parts within this time arrived together.
        const TOGETHER: Duration = Duration::from_millis(100);
        match (self.first(), &self.end) {
            (Some(first), Some((end, _))) => first >= LEAST && *end - first <= TOGETHER,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Arrival;

    #[test]
    fn what_comes_together_at_the_end_was_collected() {
        let at = Duration::from_millis;
        for (parts, end, expected) in [
            (&[10, 1010, 2010][..], Some(3010), false),
            (&[3005, 3008], Some(3010), true),
            (&[3005], Some(3010), true),
            // It is short, or open.
            (&[5], Some(6), false),
            (&[3005], None, false),
            (&[], Some(3000), false),
        ] {
            let arrival = Arrival {
                head: at(1),
                parts: parts.iter().map(|&part| (at(part), 10)).collect(),
                end: end.map(|end| (at(end), None)),
            };
            assert_eq!(arrival.came_at_once(), expected, "{parts:?} {end:?}");
        }
    }
}
