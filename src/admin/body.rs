//! The bodies of the admin listener: whole ones, and live streams.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::Full;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use crate::metrics::Metrics;

/// The body of a response.
#[derive(Debug)]
pub(super) enum AdminResponseBody {
    /// All of it is there.
    Whole(Full<Bytes>),
    /// An event stream, which ends with its connection.
    Live(LiveBody),
}

/// A live stream: an event stream whose text comes from a queue.
#[derive(Debug)]
pub(super) struct LiveBody {
    texts: mpsc::Receiver<Bytes>,
    end: Pin<Box<Sleep>>,
    taken: Rc<Cell<Option<Instant>>>,
    // Counts the stream until it is dropped.
    _viewer: Viewer,
}

/// The live streams of one kind.
#[derive(Clone, Debug)]
pub(super) struct Viewers {
    open: Rc<Cell<usize>>,
    // The open streams of all kinds.
    all: Rc<Cell<usize>>,
    metrics: Metrics,
}

/// A live stream that is counted.
#[derive(Debug)]
pub(super) struct Viewer(Viewers);

/// When the live stream of a connection was last polled for more; `None` while there is none. Tells a connection
/// whose client does not read from one that has nothing to send.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveActivity(Rc<Cell<Option<Instant>>>);

impl Viewers {
    /// Two kinds, whose viewers one metric counts.
    pub(super) fn pair(metrics: &Metrics) -> [Self; 2] {
        let all = Rc::default();
        [(); 2].map(|()| Self {
            open: Rc::default(),
            all: Rc::clone(&all),
            metrics: metrics.clone(),
        })
    }

    /// Counts another one; `None` if there are `max` already.
    pub(super) fn enter(&self, max: usize) -> Option<Viewer> {
        (self.open.get() < max).then(|| {
            self.open.set(self.open.get() + 1);
            self.set_all(self.all.get() + 1);
            Viewer(self.clone())
        })
    }

    fn set_all(&self, all: usize) {
        self.all.set(all);
        self.metrics.status_viewers(all);
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.set_all(self.0.all.get() - 1);
    }
}

impl LiveActivity {
    /// Whether a live stream is open, and its last text was not taken for this long.
    pub(super) fn is_stalled(&self, longest: Duration) -> bool {
        self.0.get().is_some_and(|taken| taken.elapsed() >= longest)
    }

    /// Whether a live stream is open.
    pub(super) fn is_live(&self) -> bool {
        self.0.get().is_some()
    }
}

impl LiveBody {
    /// A stream that ends with its queue, or after `longest`.
    pub(super) fn new(
        texts: mpsc::Receiver<Bytes>,
        longest: Duration,
        viewer: Viewer,
        activity: &LiveActivity,
    ) -> Self {
        activity.0.set(Some(Instant::now()));
        let taken = Rc::clone(&activity.0);
        Self { texts, end: Box::pin(sleep(longest)), taken, _viewer: viewer }
    }
}

impl Drop for LiveBody {
    fn drop(&mut self) {
        self.taken.set(None);
    }
}

impl From<Full<Bytes>> for AdminResponseBody {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

impl http_body::Body for AdminResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Live(body) => {
                body.taken.set(Some(Instant::now()));
                if body.end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                body.texts.poll_recv(context).map(|text| text.map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Live(_) => http_body::SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::{AdminResponseBody, LiveActivity, LiveBody, Viewers};
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_live_stream_ends_with_its_queue_or_at_its_age_and_is_counted_until_then() {
        let [viewers, _] = Viewers::pair(&Metrics::new().expect("metrics"));
        let activity = LiveActivity::default();
        let open = |texts| {
            let viewer = viewers.enter(1).expect("a place");
            let hour = Duration::from_secs(3600);
            AdminResponseBody::Live(LiveBody::new(texts, hour, viewer, &activity))
        };
        let (sender, texts) = mpsc::channel(1);
        let body = open(texts);
        assert!(viewers.enter(1).is_none(), "there is one already");
        sender.send("text".into()).await.expect("a reader");
        drop(sender);
        assert_eq!(body.collect().await.expect("a body").to_bytes(), "text");
        assert!(!activity.is_live());

        let (_sender, texts) = mpsc::channel(1);
        let body = open(texts);
        assert!(activity.is_live() && !activity.is_stalled(Duration::from_secs(60)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(activity.is_stalled(Duration::from_secs(60)), "nothing was taken");
        assert_eq!(body.collect().await.expect("a body").to_bytes(), "");
        assert!(viewers.enter(1).is_some());
    }
}
