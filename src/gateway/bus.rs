//! Starts the embedded bus, and what reads from it and publishes on it.

use ssegate_bus::{Broker, BusSettings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::revoking::ControlParts;
use super::source_parts::SourceParts;
use super::tasks::Tasks;
use super::{Error, monitor};
use crate::source::bus_feed::feed_hub;
use crate::source::control;
use crate::source::intake::Intake;
use crate::source::presence::keep_presence;
use crate::source::publishing::publish_on_bus;
use crate::source::redis::{StreamReader, StreamServer};

/// What the bus is started with.
pub(super) struct BusParts {
    pub(super) socket: std::net::TcpListener,
    pub(super) parts: SourceParts,
    /// Ends the connections of clients; the gateway still reads from the bus while it drains.
    pub(super) stop: CancellationToken,
}

impl BusParts {
    /// Starts the tasks.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(super) fn start(self, tasks: &mut Tasks) -> Result<(), Error> {
        let Self { socket, parts, stop } = self;
        let webhooks = parts.start_webhooks(tasks);
        let SourceParts { source, publications, hub, control, presence, .. } = parts;
        let SourceParts { health, metrics, .. } = parts;
        let max_event_bytes = source.max_event_bytes;
        let broker = Broker::new(BusSettings {
            max_event_bytes,
            max_memory: source.max_bus_memory,
            max_stream_bytes: source.max_bus_streams,
            ..BusSettings::default()
        });
        const IN_MEMORY: &str = "the embedded bus is in memory only: \
                                 entries of streams are lost when the gateway stops";
        tracing::info!(max_stream_bytes = source.max_bus_streams, "{IN_MEMORY}");
        let watch = monitor::watch_bus(broker.stats(), metrics.clone());
        tasks.spawn("the bus monitor", watch);
        let socket = TcpListener::from_std(socket)?;
        tasks.spawn("the bus", ssegate_bus::serve(socket, broker.clone(), stop));
        tasks.spawn("the publisher", publish_on_bus(broker.clone(), publications));
        let server = StreamServer::Bus(broker.clone());
        let (of_streams, counts) = (health.clone(), metrics.clone());
        let reader = StreamReader::new(server, max_event_bytes, hub.clone(), of_streams, counts);
        tasks.spawn("the stream reader", reader.run());
        if let Some(ControlParts { channel, reader, .. }) = control {
            let control = control::bus::follow(broker.clone(), channel, reader);
            tasks.spawn("the control channel", control);
        }
        if let Some(work) = presence.and_then(|presence| presence.work(false)) {
            tasks.spawn("the presence", keep_presence(work, broker.clone(), webhooks));
        }
        let intake = Intake::new(hub.clone(), metrics.clone());
        tasks.spawn("the source", feed_hub(broker, hub, intake));
        health.set_embedded_source();
        metrics.source_connected(true);
        Ok(())
    }
}
