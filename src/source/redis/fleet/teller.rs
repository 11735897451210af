//! Publishes the settings that have to be the same at all gateways of a server, and reports gateways that differ.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::outbox::{FleetMessageKind, FleetOutbox, OutgoingFleetMessage};
use super::peers::AlikePeers;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::alike::{AlikeDifference, AlikeSetting, AlikeSettings, AlikeSource};
use crate::source::fleet::FOR_ALL;

/// How often the settings are published while all agree. While they differ, both sides publish more often:
/// [`AlikePeers::interval`].
const INTERVAL: Duration = Duration::from_secs(60);
/// How often to check for a reload that has changed settings, and for gateways that have ended.
const LOOK: Duration = Duration::from_secs(1);

/// The settings of this gateway, and the differences that were logged.
#[derive(Debug)]
pub(super) struct SettingsPublisher {
    source: AlikeSource,
    // The run of this gateway, which receives its own messages, too.
    run: String,
    outbox: Rc<FleetOutbox>,
    health: Health,
    metrics: Metrics,
    // What was published last, when, and in which generation of the connection.
    published: RefCell<Option<(AlikeSettings, Instant, u64)>>,
    peers: RefCell<AlikePeers>,
    // Notified at the first message of a gateway that differs.
    met: Notify,
    // The settings whose difference was reported to the operator, and when each was last seen.
    noted: RefCell<BTreeMap<String, Instant>>,
}

impl SettingsPublisher {
    pub(super) fn new(
        (source, run): (AlikeSource, String),
        outbox: Rc<FleetOutbox>,
        (health, metrics): (Health, Metrics),
    ) -> Self {
        Self {
            source,
            run,
            outbox,
            health,
            metrics,
            published: RefCell::default(),
            peers: RefCell::default(),
            met: Notify::new(),
            noted: RefCell::default(),
        }
    }

    /// Publishes the settings for ever. Owned by the pub/sub connection's task.
    pub(super) async fn run(&self) {
        loop {
            self.look(Instant::now());
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.met.notified() => {}
            }
        }
    }

    /// Publishes what is due, and reports where others differ.
    fn look(&self, now: Instant) {
        let own = self.source.current();
        let differences = self.peers.borrow_mut().differences(&own);
        let interval = match differences.is_empty() {
            true => INTERVAL,
            false => self.peers.borrow().interval(now),
        };
        let generation = self.outbox.generation();
        let is_due = self.published.borrow().as_ref().is_none_or(|(published, at, of)| {
            *published != own || *of != generation || now.duration_since(*at) >= interval
        });
        if is_due && self.outbox.server().is_some() {
            self.publish(own, (now, generation));
        }
        self.note(&differences, now);
    }

    fn publish(&self, own: AlikeSettings, (now, generation): (Instant, u64)) {
        if let Some(body) = own.message(&self.run) {
            let (channel, kind) = (FOR_ALL.to_owned(), FleetMessageKind::Settings);
            let body = body.into();
            self.outbox.offer(OutgoingFleetMessage { channel, body, question: None, kind });
        }
        *self.published.borrow_mut() = Some((own, now, generation));
    }

    /// Handles settings that a gateway has published, perhaps this one. Returns whether the message has settings.
    pub(super) fn receive(&self, body: &[u8]) -> bool {
        let Some((run, settings)) = AlikeSettings::parse(body) else { return false };
        let (own, now, mut peers) =
            (self.source.current(), Instant::now(), self.peers.borrow_mut());
        if run == self.run {
            peers.receive_own(now);
        } else if peers.receive((run, settings), &own, now) {
            // It may have just started, and not have received the settings of this gateway.
            self.met.notify_one();
        }
        true
    }

    /// Reports the settings that differ, and those that do not differ any more.
    fn note(&self, differences: &[AlikeDifference], now: Instant) {
        let counted = AlikeSetting::ALL.map(|of| {
            let differ = differences.iter().filter(|it| it.of == of);
            (of.as_str(), differ.count())
        });
        self.metrics.settings_differ(counted);
        let mut noted = self.noted.borrow_mut();
        noted.retain(|setting, _| {
            let differs = differences.iter().any(|it| it.setting == *setting);
            if !differs {
                self.health.works(setting);
                tracing::info!(
                    setting,
                    "no other gateway at this Redis is configured differently now"
                );
            }
            differs
        });
        for AlikeDifference { setting, detail, .. } in differences {
            let last = noted.get(setting).copied();
            if last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
                continue;
            }
            self.health.failed(setting, "differs", detail);
            noted.insert(setting.clone(), now);
            if last.is_none() {
                tracing::warn!(
                    setting,
                    detail,
                    "another gateway at this Redis is configured differently"
                );
            }
        }
    }
}
