//! Publishes on the embedded bus.

use ssegate_bus::Broker;
use ssegate_resp::Payload;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::kept_results::KeptResults;
use super::publication::{JobResult, Publication, PublicationKind, PublicationOutcome, Receipt};
use super::publisher::PublicationJob;

/// Makes publications on `broker` as they come. Owned by the gateway, which drops it.
pub(crate) async fn publish_on_bus(broker: Broker, mut jobs: mpsc::Receiver<PublicationJob>) {
    let mut kept = KeptResults::default();
    while let Some(job) = jobs.recv().await {
        let result = publish(&broker, &mut kept, &job, Instant::now());
        job.complete(result);
    }
    // There are no publishers any more: the gateway is shutting down.
    std::future::pending().await
}

fn publish(
    broker: &Broker,
    kept: &mut KeptResults,
    job: &PublicationJob,
    now: Instant,
) -> JobResult {
    if let Some(key) = &job.key
        && let Some(earlier) = kept.find(key, now)?
    {
        return Ok(earlier);
    }
    let receipts: Vec<_> = job.publications.iter().map(|one| publish_one(broker, one)).collect();
    broker.flush();
    if let Some(key) = &job.key {
        kept.keep(key.clone(), &receipts, now);
    }
    Ok(PublicationOutcome { receipts, is_repeated: false })
}

fn publish_one(broker: &Broker, Publication { channel, kind }: &Publication) -> Receipt {
    match kind {
        PublicationKind::Message(payload) => {
            let payload = Payload::Whole(payload.clone());
            let receivers = broker.publish(channel.as_str().as_bytes(), &payload);
            Receipt::Receivers(receivers as u64)
        }
        // No route of a gateway with the bus has sharded channels.
        PublicationKind::Sharded(_) => Receipt::Refused("ERR no sharded channels".to_owned()),
        PublicationKind::Entry { fields, max_entries } => {
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), &value[..]));
            let fields: Vec<_> = fields.collect();
            match broker.add_entry(channel.as_str().as_bytes(), &fields, *max_entries) {
                Ok(id) => Receipt::Entry(id),
                Err(error) => Receipt::Refused(error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_bus::{Broker, BusSettings};
    use ssegate_hub::ChannelName;
    use tokio::runtime::LocalRuntime;

    use super::publish_on_bus;
    use crate::source::publishing::{
        IdempotencyKey, NotPublished, Publication, PublicationKind, Publisher, Receipt,
    };

    #[test]
    fn a_key_publishes_once() {
        let runtime = LocalRuntime::new().expect("a runtime");
        runtime.block_on(async {
            let (publisher, jobs) = Publisher::new(1 << 20);
            let broker = Broker::new(BusSettings::default());
            let task = tokio::task::spawn_local(publish_on_bus(broker, jobs));
            let publish = async |fingerprint: &str| {
                let channel = ChannelName::new("news").expect("a name");
                let kind = PublicationKind::Message(Bytes::from_static(b"x"));
                let name = "key".to_owned();
                let key = IdempotencyKey { name, fingerprint: fingerprint.to_owned() };
                let publications = vec![Publication { channel, kind }];
                publisher.publish(publications, Some(key), publisher.reservation()).await
            };
            let first = publish("a").await.expect("published");
            assert_eq!((first.receipts, first.is_repeated), (vec![Receipt::Receivers(0)], false));
            assert!(publish("a").await.expect("the same").is_repeated);
            assert_eq!(publish("b").await, Err(NotPublished::KeyReused));
            task.abort();
        });
    }
}
