//! The source of the hub of shared streams: what pumps read becomes events of that hub.
//!
//! A gateway has a second hub, whose channels are the shared streams. So their readers have histories, ids, bounds
//! and gaps as those of an events route, and an event goes the same way to a socket.

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
                    // What their pumps have put in is among these. Others put in more and more.
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
            // It has ended before its reader came here.
            (SourceRequest::Follow, None) => {
                // It waits for that, too.
                self.hub.confirm(false, name);
                self.hub.end_channel(name);
            }
            // The hub has let go of it, and what comes would be lost.
            (SourceRequest::Leave, Some(upstream)) => upstream.readers.close(),
            (SourceRequest::Leave, None) => {}
        }
    }

    /// Hands a piece to the hub. A panic ends the one stream that the piece is of.
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
