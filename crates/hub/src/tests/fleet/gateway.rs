//! One gateway of the simulation: a real hub with a shard, and a simulated connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::server::ServerConnection;
use crate::history::retention::{NameShape, Retention, RetentionRule, RetentionRules};
use crate::tests::fleet::plan::Plan;
use crate::{
    ChannelName, FleetRequest, FollowedPattern, HistorySettings, Hub, HubSettings, Ids, Shard,
    SourceKind, SourceRequest, Subscription,
};

/// What the source of a gateway was asked for.
#[derive(Debug)]
pub(super) enum Asked {
    Source(Vec<(Subscription, SourceRequest)>),
    Fleet(Vec<FleetRequest>),
}

pub(super) struct SimulatedGateway {
    pub(super) hub: Hub,
    pub(super) shard: Shard,
    pub(super) run: String,
    pub(super) connection: Option<ServerConnection>,
    pub(super) asked: Rc<RefCell<Vec<Asked>>>,
    pub(super) is_alive: bool,
    pub(super) is_draining: bool,
    /// When it has drained, another goes on with what it leaves.
    pub(super) restarts: bool,
    /// Clients may come; not before it has taken over.
    pub(super) is_serving: bool,
    pub(super) is_restored: bool,
    /// The newest message that it has heard, and the newest of which it has heard every copy.
    pub(super) newest: u64,
    pub(super) settled: u64,
    /// The newest message at each number.
    pub(super) numbers: Vec<(u64, u64)>,
    /// The same of the gateways whose histories it goes on with.
    pub(super) earlier: Vec<(String, Vec<(u64, u64)>)>,
    /// Of which message a copy came last.
    pub(super) copied: u64,
    /// Counts connections, so that what an older one has sent is dropped.
    pub(super) connections: u64,
    pub(super) slowness: u64,
    /// The newest command for each subscription.
    pub(super) commands: HashMap<Subscription, u64>,
    tasks: Vec<JoinHandle<()>>,
}

impl SimulatedGateway {
    pub(super) fn new(plan: &Plan, slowness: u64, followed: &[&str], changed: &Rc<Notify>) -> Self {
        let history = HistorySettings {
            count: plan.history,
            bytes: plan.history_bytes,
            age: plan.history_age,
        };
        let rule = |first: &str| RetentionRule {
            names: NameShape::new(vec![first.into(), String::new()]),
            format: ssegate_format::Format::Raw,
            ids: Ids::Ours,
            retention: Retention { history: Some(history), linger: plan.linger },
        };
        let pattern = |pattern: &&str| FollowedPattern {
            pattern: ChannelName::new(pattern).expect("a name"),
            format: ssegate_format::Format::Raw,
        };
        let settings = HubSettings {
            max_channels: plan.max_channels,
            followed: followed.iter().map(pattern).collect(),
            history_memory: plan.history_memory,
            handover_bytes: plan.handover_bytes,
            retention: RetentionRules::new([rule("c"), rule("p")]).into(),
            ..HubSettings::default()
        };
        let (hub, mut links) = Hub::new(settings, 1, ());
        let shard = Shard::new(links.remove(0), crate::tests::WRITE_TIMEOUT, ());
        let asked: Rc<RefCell<Vec<Asked>>> = Rc::default();
        let (of_hub, of_shard) = (hub.clone(), shard.clone());
        let mut tasks = vec![
            tokio::task::spawn_local(async move { of_hub.run().await }),
            tokio::task::spawn_local(async move { of_shard.run().await }),
        ];
        let (of_source, queue, notify) = (hub.clone(), Rc::clone(&asked), Rc::clone(changed));
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let requests = of_source.source_requests(SourceKind::PubSub).await.collect();
                queue.borrow_mut().push(Asked::Source(requests));
                notify.notify_one();
            }
        }));
        let (of_fleet, queue, notify) = (hub.clone(), Rc::clone(&asked), Rc::clone(changed));
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let requests = of_fleet.fleet_requests().await;
                queue.borrow_mut().push(Asked::Fleet(requests));
                notify.notify_one();
            }
        }));
        let run = hub.run_text();
        Self {
            hub,
            shard,
            run,
            connection: None,
            asked,
            is_alive: true,
            is_draining: false,
            is_serving: true,
            restarts: false,
            is_restored: false,
            newest: 0,
            settled: 0,
            numbers: Vec::new(),
            earlier: Vec::new(),
            copied: 0,
            connections: 0,
            slowness,
            commands: HashMap::new(),
            tasks,
        }
    }

    pub(super) fn takes_clients(&self) -> bool {
        self.is_alive && self.is_serving && !self.is_draining && self.hub.is_warm()
    }

    /// What the next process would be given, as bytes.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let snapshot = self.hub.snapshot(usize::MAX);
        snapshot.write(Instant::now(), &mut bytes).expect("a buffer takes all");
        bytes
    }

    /// The numbers of its run, and of those before.
    pub(super) fn all_numbers(&self) -> Vec<(String, Vec<(u64, u64)>)> {
        let own = (self.run.clone(), self.numbers.clone());
        self.earlier.iter().cloned().chain([own]).collect()
    }

    pub(super) fn drain(&mut self, over: std::time::Duration) {
        self.is_draining = true;
        self.hub.leave_fleet();
        let shard = self.shard.clone();
        self.tasks.push(tokio::task::spawn_local(async move { shard.drain(over).await }));
    }

    pub(super) fn die(&mut self) {
        self.is_alive = false;
        self.connection = None;
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for SimulatedGateway {
    fn drop(&mut self) {
        self.die();
    }
}
