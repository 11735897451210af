//! Starts what reads from a Redis and publishes in it.

use std::sync::Arc;

use tokio::sync::watch;

use super::revoking::ControlParts;
use super::source_parts::SourceParts;
use super::tasks::Tasks;
use crate::route::{Router, ServerPlace};
use crate::source::alike::AlikeSource;
use crate::source::redis::{
    ClusterWatch, ControlChannel, PubSub, RecordMemory, Recording, RedisKept, RedisPresence,
    RedisPublisher, RedisServer, SentinelWatch, ShardedPubSub, ShardedRecording, StreamReader,
    StreamServer,
};

/// What the tasks of a Redis are started with.
pub(super) struct RedisParts {
    pub(super) server: RedisServer,
    pub(super) place: ServerPlace,
    pub(super) parts: SourceParts,
    pub(super) routes: watch::Receiver<Arc<Router>>,
}

impl RedisParts {
    /// Starts the tasks.
    pub(super) fn start(self, tasks: &mut Tasks) {
        let Self { server, place, parts, routes } = self;
        let webhooks = parts.presence.is_some().then(|| parts.start_webhooks(tasks));
        let SourceParts { source, fleet, publications, hub, control, presence, kept, .. } = parts;
        let SourceParts { health, metrics, recording_ends: [end, of_sharded], node_fleet, .. } =
            parts;
        let seen = || (health.clone(), metrics.clone());
        for watch in SentinelWatch::all(&server, &health, &metrics) {
            tasks.spawn("the watch of a sentinel", watch.run());
        }
        if let Some(watch) = ClusterWatch::new(&server, &health, &metrics) {
            tasks.spawn("the watch of the Cluster", watch.run());
        }
        let most = source.max_event_bytes;
        let streams = StreamServer::Redis(server.clone());
        let (of_streams, counts) = seen();
        let reader = StreamReader::new(streams, most, hub.clone(), of_streams, counts);
        tasks.spawn("the stream reader", reader.run());
        let alike = AlikeSource::new(place.clone(), routes.clone());
        let memory = RecordMemory::new(source.recorded.memory);
        let recorded = (most, source.recorded.clone(), memory.clone(), end);
        let routes = (routes, place);
        let ends = (hub.clone(), routes.clone());
        let sharded = ShardedPubSub::new(server.clone(), (most, node_fleet), ends, seen());
        tasks.spawn("the source of sharded channels", sharded.run());
        let recording = Recording::new(server.clone(), recorded, (hub.clone(), routes), seen());
        tasks.spawn("the recording of channels", recording.run());
        let recorded = (most, source.recorded, memory, of_sharded);
        let recording = ShardedRecording::new(server.clone(), recorded, hub.clone(), seen());
        tasks.spawn("the recording of sharded channels", recording.run());
        let (of_source, counts) = seen();
        let fleet = (most, fleet.map(|fleet| (fleet, alike)));
        let source = PubSub::new(server.clone(), fleet, hub, of_source, counts);
        tasks.spawn("the source", source.run());
        if let Some(ControlParts { channel, reader, outgoing, .. }) = control {
            let (of_control, counts) = seen();
            let ends = (reader, outgoing);
            let control = ControlChannel::new(server.clone(), channel, ends, of_control, counts);
            tasks.spawn("the control channel", control.run());
        }
        let work = presence.and_then(|presence| presence.work(true));
        if let (Some(work), Some(webhooks)) = (work, webhooks) {
            let (of_presence, counts) = seen();
            let presence = RedisPresence::new(server.clone(), work, webhooks, of_presence, counts);
            tasks.spawn("the presence", presence.run());
        }
        if let Some(kept) = kept.link() {
            let (of_kept, counts) = seen();
            let kept = RedisKept::new(server.clone(), kept, of_kept, counts);
            tasks.spawn("the store of kept streams", kept.run());
        }
        let publisher = RedisPublisher::new(server, publications, health, metrics);
        tasks.spawn("the publisher", publisher.run());
    }
}
