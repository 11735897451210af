//! Tells the other gateways at a server what has to be the same at all of them, and says where theirs is another.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::outbox::{FleetMessageKind, FleetOutbox, OutgoingFleetMessage};
use crate::health::Health;
use crate::source::alike::{AlikeDifference, AlikeSettings, AlikeSource};
use crate::source::fleet::FOR_ALL;

/// How often it is told, also where nothing has changed: a difference is told as long as both gateways run.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long it is waited for a connection.
const LOOK: Duration = Duration::from_secs(1);
/// How often at most a gateway that has something else is answered at once.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// What this gateway tells, and what it has heard.
#[derive(Debug)]
pub(super) struct AlikeTeller {
    source: AlikeSource,
    outbox: Rc<FleetOutbox>,
    health: Health,
    // When it was last told.
    told: Cell<Option<Instant>>,
    // The settings whose difference was logged.
    logged: RefCell<BTreeSet<String>>,
}

impl AlikeTeller {
    pub(super) fn new(source: AlikeSource, outbox: Rc<FleetOutbox>, health: Health) -> Self {
        let (told, logged) = (Cell::default(), RefCell::default());
        Self { source, outbox, health, told, logged }
    }

    /// Tells it for ever. Owned by the pub/sub connection's task.
    pub(super) async fn run(&self) {
        loop {
            let is_connected = self.outbox.server().is_some();
            if is_connected {
                self.tell();
            }
            sleep(if is_connected { INTERVAL } else { LOOK }).await;
        }
    }

    fn tell(&self) {
        self.told.set(Some(Instant::now()));
        if let Some(body) = self.source.current().message() {
            let (channel, kind) = (FOR_ALL.to_owned(), FleetMessageKind::Settings);
            let body = body.into();
            self.outbox.offer(OutgoingFleetMessage { channel, body, question: None, kind });
        }
    }

    /// Takes what a gateway has told for all, this one perhaps. Returns whether it is that.
    pub(super) fn hear(&self, body: &[u8]) -> bool {
        let Some(other) = AlikeSettings::parse(body) else { return false };
        let differences = self.source.current().differences(&other);
        for difference in &differences {
            self.note(difference);
        }
        let is_due = self.told.get().is_none_or(|told| told.elapsed() >= LEAST_PAUSE);
        if !differences.is_empty() && is_due {
            // The other one may have started just now, and has not heard what is here.
            self.tell();
        }
        true
    }

    fn note(&self, AlikeDifference { setting, detail }: &AlikeDifference) {
        self.health.failed(setting, "differs", detail);
        if self.logged.borrow_mut().insert(setting.clone()) {
            tracing::warn!(
                setting,
                detail,
                "another gateway at this Redis is configured differently"
            );
        }
    }
}
