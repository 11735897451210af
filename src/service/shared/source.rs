//! The source of the hub of shared streams: publishes what pumps read to that hub.
//!
//! A gateway has a second hub, whose channels are the shared streams. So their readers have histories, ids, bounds
//! and gaps like those of an events route, and an event takes the same path to a socket.

use ssegate_hub::{GapReason, Hub, SourceKind, SourceRequest};

use super::piece::{SharedPiece, SharedPieceKind};
use super::upstreams::{MAX_PIECES, SharedPieces, SharedStreams};
use crate::metrics::Metrics;
use crate::server::contain::contain;

/// The most pieces that are taken before the events are sent to the shards.
const MAX_TOGETHER: usize = 64;

/// Feeds the hub of shared streams.
#[derive(Debug)]
pub struct SharedSource {
    hub: Hub,
    streams: SharedStreams,
    pieces: SharedPieces,
    metrics: Metrics,
}

impl SharedSource {
    /// The source of `hub`.
    pub fn new(
        hub: Hub,
        (streams, pieces): (SharedStreams, SharedPieces),
        metrics: Metrics,
    ) -> Self {
        Self { hub, streams, pieces, metrics }
    }

    /// Feeds the hub. Never returns.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                requests = self.hub.source_requests(SourceKind::PubSub) => {
                    for (subscription, request) in requests {
                        self.serve(subscription.name.as_str(), request);
                    }
                }
                piece = self.pieces.0.recv() => {
                    let Some(piece) = piece else { return std::future::pending().await };
                    self.take(piece);
                    self.take_more(MAX_TOGETHER - 1);
                }
                ended = self.streams.ended() => {
                    // The last pieces of these pumps are in the queue now. Others may add more and more.
                    self.take_more(MAX_PIECES);
                    for upstream in ended {
                        upstream.set_complete();
                        self.hub.end_channel(upstream.name());
                    }
                }
            }
            self.hub.flush();
        }
    }

    /// Takes what waits, up to `most` pieces.
    fn take_more(&mut self, most: usize) {
        for _ in 0..most {
            let Ok(piece) = self.pieces.0.try_recv() else { return };
            self.take(piece);
        }
    }

    fn serve(&self, name: &str, request: SourceRequest) {
        match (request, self.streams.named(name)) {
            (SourceRequest::Follow, Some(upstream)) => {
                self.hub.confirm(false, name);
                upstream.set_followed();
            }
            // The stream has ended before its reader came here.
            (SourceRequest::Follow, None) => {
                // The reader waits for the confirmation, too.
                self.hub.confirm(false, name);
                self.hub.end_channel(name);
            }
            // The hub has removed the channel: further events would be lost.
            (SourceRequest::Leave, Some(upstream)) => upstream.readers.close(),
            (SourceRequest::Leave, None) => {}
        }
    }

    /// Hands a piece to the hub. A panic ends only the stream of the piece.
    fn take(&self, piece: SharedPiece) {
        let SharedPiece { upstream, received, what } = piece;
        let name = upstream.name();
        let taken = contain(|| match what {
            SharedPieceKind::Events(events) => {
                for event in events {
                    self.hub.begin_message(name.as_bytes(), None);
                    match event {
                        Some(event) => {
                            let mut event = Some(event);
                            self.hub.publish(false, name, received, |_format| event.take());
                        }
                        None => {
                            self.metrics.event_too_large();
                            self.hub.skip(false, name);
                        }
                    }
                    self.hub.end_message();
                }
            }
            SharedPieceKind::Away => self.hub.gap(name, GapReason::UpstreamAway),
        });
        upstream.set_newest(self.hub.newest_number());
        if taken.is_err() {
            self.metrics.panicked("shared");
            upstream.readers.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use ssegate_format::Format;
    use ssegate_hub::{
        ChannelName, CloseReason, HistorySettings, HubSettings, Ids, LastSeen, Replay, Shard,
        StreamOpening, StreamRequest, StreamSettings, Subscription, Topic,
    };
    use ssegate_sse::frame::Form;
    use tokio::task::LocalSet;

    use super::{Hub, SharedSource, SharedStreams};
    use crate::metrics::Metrics;

    /// Its stream has ended before its reader came to the hub.
    #[tokio::test(start_paused = true)]
    async fn a_reader_that_comes_too_late_ends() {
        let metrics = Metrics::new().expect("metrics");
        let (hub, mut links) = Hub::new(HubSettings::default(), 1, ());
        let shard = Shard::new(links.pop().expect("one link"), Duration::from_secs(10), ());
        let source = SharedSource::new(hub.clone(), SharedStreams::new(metrics.clone()), metrics);
        let tasks = LocalSet::new();
        drop(tasks.spawn_local(async move { hub.run().await }));
        drop(tasks.spawn_local(source.run()));
        let running = shard.clone();
        drop(tasks.spawn_local(async move { running.run().await }));
        let name = ChannelName::new("1:gone").expect("a name");
        let subscription = Subscription { name, is_pattern: false };
        let reader = shard.subscribe(StreamRequest {
            topics: vec![Topic { subscription, format: Format::Raw, ids: Ids::Mixed }],
            settings: Arc::new(StreamSettings { replay: Replay::All, ..StreamSettings::default() }),
            prefix_bytes: 2,
            history: Some(HistorySettings::default()),
            last_seen: LastSeen::default(),
            opening: StreamOpening { is_continued: false, ready_has_position: false },
            expires_at: None,
            cut: Box::new(|| {}),
            tag: 0,
        });
        let ended = async {
            let context = Context::from_waker(Waker::noop());
            while reader.close_reason().is_none() {
                while let Poll::Ready(Some(_)) = reader.poll_next(Form::Text, &context) {}
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let ended = tasks.run_until(tokio::time::timeout(Duration::from_secs(1), ended)).await;
        assert_eq!((ended.is_ok(), reader.close_reason()), (true, Some(CloseReason::SourceEnded)));
    }
}
