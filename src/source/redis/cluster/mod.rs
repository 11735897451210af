//! A Redis Cluster: the node that the gateway listens through, and the owner of each key.
//!
//! Each node passes on what is published at any other, to all of its own subscribers ("Publish/Subscribe" of
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>). So the gateway receives all channels
//! once, through one node. Another node takes its place when that cannot be reached, is cut off from the rest, or
//! receives nothing.
//!
//! A key belongs to a [`slot`], and each slot to one node. The map of the slots is kept ([`slot_map`]), requested again
//! periodically ([`cluster_watch`](super::cluster_watch)), and corrected by each [`redirect`].
//! [`cluster_commands`](super::cluster_commands) sends each command to the owner of its key.

mod redirect;
mod slot;
mod slot_map;

pub(super) use self::redirect::Redirect;
pub(super) use self::slot::{slot_of, tag_of};
pub(super) use self::slot_map::node_address;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::ConnectionAddr;
use tokio::sync::Notify;

use self::slot_map::{ClusterSlots, NodeReplacement, SlotMap};
use super::connection::RedisConnection;
use super::error::SourceError;
use super::location::{ClusterAddress, ShownAddress};

/// The most names that are tried to find one in a slot of a node. The node may own only one of the 16,384 slots.
const MAX_NAMES_TRIED: u32 = 1 << 18;

/// The nodes of a Cluster. A cheap handle.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<ClusterShared>);

struct ClusterShared {
    address: ClusterAddress,
    known: Mutex<KnownNodes>,
    // Notified when the map of the slots has proved to be wrong.
    outdated: Notify,
}

#[derive(Default)]
struct KnownNodes {
    // From the newest reply of a node.
    nodes: Vec<ConnectionAddr>,
    map: SlotMap,
    // How many slot maps nodes have sent.
    looks: u64,
    // The one that the gateway listens through.
    current: Option<ConnectionAddr>,
    // A node that was left because it received nothing. It is used again if there is no other.
    left: Option<ConnectionAddr>,
    // Whether any node has reported its view.
    has_view: bool,
    is_refusal_told: bool,
    // Owners of slots that could not be used at the last check.
    down: Vec<ConnectionAddr>,
}

/// The Cluster as one node reports it.
#[derive(Debug, PartialEq)]
pub(super) struct ClusterView {
    /// It takes part in the Cluster, and sees enough of it.
    pub(super) is_ok: bool,
    /// All nodes that it knows, and the slots that they own; `None`: Redis denies the command.
    pub(super) slots: Option<ClusterSlots>,
}

impl Cluster {
    pub(super) fn new(address: ClusterAddress) -> Self {
        let (known, outdated) = (Mutex::default(), Notify::new());
        Self(Arc::new(ClusterShared { address, known, outdated }))
    }

    /// The node that the gateway listens through, or did last.
    pub(super) fn current(&self) -> Option<ConnectionAddr> {
        self.lock().current.clone()
    }

    /// The nodes, each once, in the order in which to try them: the one that the gateway listens through, those that
    /// the Cluster has listed, those of the configuration, and last the one that was left.
    pub(super) fn candidates(&self) -> Vec<ConnectionAddr> {
        let known = self.lock();
        let left = known.left.as_ref();
        let named = known.current.iter().chain(&known.nodes).chain(self.0.address.nodes());
        let mut candidates: Vec<ConnectionAddr> = Vec::new();
        for node in named.filter(|node| Some(*node) != left).chain(left) {
            if !candidates.contains(node) {
                candidates.push(node.clone());
            }
        }
        candidates
    }

    /// The nodes that the gateway does not listen through.
    pub(super) fn others(&self) -> Vec<ConnectionAddr> {
        let mut candidates = self.candidates();
        let current = self.current();
        candidates.retain(|node| Some(node) != current.as_ref());
        candidates
    }

    /// Records what a node reports. Logs once if `CLUSTER SLOTS` is denied, and which node serves the slots of one that owns
    /// none any more. The slots of a node that is cut off from the rest are used only if no others are known.
    pub(super) fn learn(&self, view: ClusterView) {
        let (mut known, mut replaced) = (self.lock(), Vec::new());
        known.has_view = true;
        match view.slots {
            Some(slots) if !slots.nodes.is_empty() => {
                known.nodes = slots.nodes;
                if view.is_ok || known.map == SlotMap::default() {
                    replaced = known.map.replaced(&slots.map);
                    known.map = slots.map;
                    known.looks += 1;
                }
            }
            Some(_) => {}
            None if std::mem::replace(&mut known.is_refusal_told, true) => {}
            None => tracing::info!(
                "Redis does not let the gateway ask for the nodes of the Cluster (CLUSTER SLOTS); it uses those of \
                 redis.url"
            ),
        }
        drop(known);
        for NodeReplacement { former, owner, slots } in replaced {
            const WHAT: &str = "a node of the Cluster serves the slots of another one now";
            let (node, instead_of) = (ShownAddress(&owner), ShownAddress(&former));
            tracing::info!(%node, slots, %instead_of, "{WHAT}");
        }
    }

    /// Records that a node has named this owner of a slot.
    pub(super) fn moved(&self, slot: u16, owner: &ConnectionAddr) {
        let mut known = self.lock();
        known.map.set(slot..=slot, owner);
        known.looks += 1;
        drop(known);
        self.outdate();
    }

    /// Whether any node has reported its view.
    pub(super) fn has_view(&self) -> bool {
        self.lock().has_view
    }

    /// Whether no owner of any slot is known.
    pub(super) fn is_without_slots(&self) -> bool {
        self.lock().map == SlotMap::default()
    }

    /// How many slot maps nodes have sent, changed or not.
    pub(super) fn looks(&self) -> u64 {
        self.lock().looks
    }

    /// Records that a node has executed a command about a slot: it owns the slot, unless another owner is known.
    pub(super) fn serves(&self, slot: u16, node: &ConnectionAddr) {
        let mut known = self.lock();
        if known.map.owner(slot).is_none() {
            known.map.set(slot..=slot, node);
        }
    }

    /// Requests that the slot map is read again soon: it may be wrong.
    pub(super) fn outdate(&self) {
        self.0.outdated.notify_one();
    }

    /// Waits until the map may be wrong. Cancel safe.
    pub(super) async fn outdated(&self) {
        self.0.outdated.notified().await;
    }

    /// The node that owns a slot, if that is known.
    pub(super) fn owner(&self, slot: u16) -> Option<ConnectionAddr> {
        self.lock().map.owner(slot).cloned()
    }

    /// Whether Redis denies the gateway the slot map.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().is_refusal_told
    }

    /// A name that begins with `name`, in a slot that this node owns; `None`: it owns none.
    pub(super) fn name_at(&self, name: &str, node: &ConnectionAddr) -> Option<String> {
        let known = self.lock();
        let mut names = (0..MAX_NAMES_TRIED).map(|number| format!("{name}-{number}"));
        names.find(|name| known.map.owner(slot_of(name.as_bytes())) == Some(node))
    }

    /// The nodes that own any slot, as far as that is known.
    pub(super) fn owners(&self) -> Vec<ConnectionAddr> {
        self.lock().map.owners()
    }

    /// Sets the owners of slots that cannot be used. Returns the previous ones.
    pub(super) fn set_down(&self, down: Vec<ConnectionAddr>) -> Vec<ConnectionAddr> {
        std::mem::replace(&mut self.lock().down, down)
    }

    /// Whether the owner of this slot could not be used at the last check. Every gateway finds the same, so it does not
    /// make one unready.
    pub(super) fn is_down(&self, slot: u16) -> bool {
        let known = self.lock();
        known.map.owner(slot).is_some_and(|owner| known.down.contains(owner))
    }

    /// The node that owns a slot; if unknown, one of the nodes, another one for each try.
    pub(super) fn owner_or_any(&self, slot: u16, tries: u32) -> Option<ConnectionAddr> {
        self.owner(slot).or_else(|| {
            let mut nodes = self.candidates();
            (!nodes.is_empty()).then(|| nodes.swap_remove(tries as usize % nodes.len()))
        })
    }

    /// Records that the gateway listens through this node.
    pub(super) fn listens_through(&self, node: &ConnectionAddr) {
        let mut known = self.lock();
        known.current = Some(node.clone());
        if known.left.as_ref() == Some(node) {
            known.left = None;
        }
    }

    /// Leaves the node that the gateway listens through: it receives nothing. Another one is tried next.
    pub(super) fn leave(&self) {
        let mut known = self.lock();
        known.left = known.current.take();
    }

    /// Records a node's report of who owns the slots, by ranges.
    #[cfg(test)]
    pub(super) fn learn_owners(&self, owners: &[(std::ops::RangeInclusive<u16>, ConnectionAddr)]) {
        let mut slots = ClusterSlots::default();
        for (range, node) in owners {
            slots.map.set(range.clone(), node);
            slots.nodes.push(node.clone());
        }
        self.learn(ClusterView { is_ok: true, slots: Some(slots) });
    }

    fn lock(&self) -> MutexGuard<'_, KnownNodes> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.0.address)
    }
}

impl RedisConnection {
    /// Asks the node at `address` what it knows of the Cluster
    /// (<https://redis.io/docs/latest/commands/cluster-info/>, <https://redis.io/docs/latest/commands/cluster-slots/>).
    ///
    /// # Errors
    /// The node is not part of a Cluster, or the connection is lost.
    pub(super) async fn view_cluster(
        &mut self,
        address: &ConnectionAddr,
    ) -> Result<ClusterView, SourceError> {
        let is_ok = self.sees_cluster().await?;
        let slots = match self.request("CLUSTER", ["SLOTS"].into_iter()).await {
            Ok(slots) => Some(ClusterSlots::parse(&slots, address)),
            Err(error) if error.is_unavailable() => None,
            Err(error) => return Err(error.for_command("CLUSTER SLOTS")),
        };
        Ok(ClusterView { is_ok, slots })
    }

    /// Whether the node sees enough of its Cluster to serve. A node that does not report it is assumed to.
    ///
    /// # Errors
    /// The node is not part of a Cluster, or the connection is lost.
    pub(super) async fn sees_cluster(&mut self) -> Result<bool, SourceError> {
        match self.request("CLUSTER", ["INFO"].into_iter()).await {
            Ok(info) => Ok(!info
                .as_bytes()
                .is_some_and(|info| info.windows(STATE_FAIL.len()).any(|part| part == STATE_FAIL))),
            Err(SourceError::Refused(message)) if message.contains("cluster support disabled") => {
                Err(SourceError::NoCluster)
            }
            Err(error) if error.is_unavailable() => Ok(true),
            Err(error) => Err(error.for_command("CLUSTER INFO")),
        }
    }
}

const STATE_FAIL: &[u8] = b"cluster_state:fail";

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;

    use super::{Cluster, ClusterAddress, ClusterSlots, ClusterView, SlotMap};

    fn at(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
    }

    fn cluster(seeds: &[u16]) -> Cluster {
        let seeds = seeds.iter().map(|port| at(*port)).collect();
        Cluster::new(ClusterAddress::new(seeds).expect("a node"))
    }

    fn learn(cluster: &Cluster, is_ok: bool, nodes: &[u16]) {
        let nodes: Vec<_> = nodes.iter().map(|port| at(*port)).collect();
        let mut map = SlotMap::default();
        nodes.iter().take(1).for_each(|node| map.set(0..=16_383, node));
        cluster.learn(ClusterView { is_ok, slots: Some(ClusterSlots { nodes, map }) });
    }

    #[test]
    fn a_node_that_is_cut_off_is_believed_about_slots_only_if_nothing_is_known() {
        let cluster = cluster(&[1]);
        assert_eq!((cluster.owner(7), cluster.has_view()), (None, false));
        learn(&cluster, false, &[2]);
        assert!(cluster.has_view());
        assert_eq!(cluster.owner(7), Some(at(2)));
        learn(&cluster, true, &[3]);
        learn(&cluster, false, &[4]);
        assert_eq!(cluster.owner(7), Some(at(3)));
        cluster.moved(7, &at(5));
        assert_eq!((cluster.owner(7), cluster.owner(8)), (Some(at(5)), Some(at(3))));
    }

    #[test]
    fn a_slot_is_down_as_long_as_its_owner_is() {
        let cluster = cluster(&[1]);
        learn(&cluster, true, &[2]);
        assert!(!cluster.is_down(7));
        assert_eq!(cluster.set_down(vec![at(2)]), []);
        assert!(cluster.is_down(7));
        cluster.moved(7, &at(3));
        assert!(!cluster.is_down(7) && cluster.is_down(8));
        assert_eq!(cluster.set_down(Vec::new()), [at(2)]);
        assert!(!cluster.is_down(8));
    }

    #[test]
    fn the_node_that_is_used_is_tried_first_and_one_that_hears_nothing_last() {
        let cluster = cluster(&[1, 2]);
        assert_eq!(cluster.candidates(), [at(1), at(2)]);
        learn(&cluster, true, &[2, 3, 1]);
        cluster.listens_through(&at(3));
        assert_eq!(cluster.candidates(), [at(3), at(2), at(1)]);
        assert_eq!(cluster.others(), [at(2), at(1)]);
        cluster.leave();
        assert_eq!(cluster.candidates(), [at(2), at(1), at(3)]);
        // A view that lists no other nodes.
        learn(&cluster, true, &[]);
        cluster.learn(ClusterView { is_ok: true, slots: None });
        cluster.listens_through(&at(2));
        cluster.leave();
        assert_eq!(cluster.candidates(), [at(3), at(1), at(2)]);
        cluster.listens_through(&at(2));
        assert_eq!(cluster.candidates()[0], at(2), "it is used again");
    }
}
