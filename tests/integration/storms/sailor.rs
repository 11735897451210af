//! A client of a storm: it connects somewhere, hangs up, and comes back with its last id.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::log::Log;
use super::sea::Sea;
use crate::support::{EventStream, Request, SOON, Via};

impl Sea {
    /// A client, to its end: answers how many events it saw, and how often it came back.
    pub(super) async fn sail(self: Arc<Self>, client: usize) -> (usize, usize) {
        let count = self.next.len();
        let channels: Vec<usize> = match client % 4 {
            0 => vec![client % count, (client + 1) % count, (client + 7) % count],
            _ => vec![client % count],
        };
        let mut log = Log::new(channels);
        let mut voyages = 0;
        while !log.is_complete(&self) {
            let via = if client.is_multiple_of(2) { Via::Http1 } else { Via::H2c };
            let Some(mut stream) = self.board(via, &log).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            voyages += 1;
            self.voyages.fetch_add(1, Ordering::SeqCst);
            let ends = Instant::now() + Duration::from_millis(fastrand::u64(20..1500));
            loop {
                let end = if self.is_calm.load(Ordering::SeqCst) { ends + 2 * SOON } else { ends };
                match tokio::time::timeout_at(end, stream.block()).await {
                    Ok(Some(block)) => {
                        if block.comments.iter().any(|comment| comment == "ready") {
                            log.ready(&self);
                        }
                        if let Some(event) = block.event {
                            log.enter(
                                &event.name,
                                &event.data,
                                self.outages.load(Ordering::SeqCst),
                            );
                        }
                        // A client keeps its id until it is told another one.
                        if !stream.last_id().is_empty() {
                            log.last_id = Some(stream.last_id().to_owned());
                        }
                    }
                    // It was cut off, or we hang up.
                    Ok(None) | Err(_) => break,
                }
                if log.is_complete(&self) {
                    break;
                }
            }
            assert!(
                !self.is_calm.load(Ordering::SeqCst) || Instant::now() < ends + 2 * SOON,
                "client {client} waits for {:?} after {:?}",
                log.expected,
                log.last_id
            );
        }
        assert!(log.gaps <= self.outages.load(Ordering::SeqCst), "one gap for each outage at most");
        (log.seen, voyages)
    }

    /// Connects somewhere; `None` where nobody answers just now.
    async fn board(&self, via: Via, log: &Log) -> Option<EventStream> {
        let gateway = {
            let gateways = self.gateways.read().unwrap();
            gateways[fastrand::usize(..gateways.len())]
        };
        let names: Vec<_> = log.channels.iter().map(|c| format!("channel=c{c}")).collect();
        let mut request = Request::events(&format!("/events?{}", names.join("&")));
        if let Some(id) = &log.last_id {
            request = request.header("last-event-id", id);
        }
        drop(tokio::net::TcpStream::connect(gateway).await.ok()?);
        // A gateway that is killed meanwhile is a failure of a task, not of this test.
        let response = tokio::spawn(async move { request.send(via, gateway).await });
        let response = tokio::time::timeout(SOON, response).await.ok()?.ok()?;
        (response.status == 200).then(|| EventStream::new(response))
    }
}
