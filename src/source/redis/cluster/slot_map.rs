//! Which node owns which slot, as the nodes report it.

use redis::ConnectionAddr;
use ssegate_resp::Value;

use super::super::sentinel::{at_same_tls, host_and_port};
use super::slot::SLOTS;

/// Nodes that are remembered, at most: a Cluster has 1,000.
const MAX_NODES: usize = 1000;

/// A slot without an owner.
const NOBODY: u16 = u16::MAX;

/// The owner of each slot. Empty: nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SlotMap {
    owners: Vec<ConnectionAddr>,
    // For each slot, the index of its owner in `owners`.
    by_slot: Vec<u16>,
}

/// Another node owns the slots of one that owns none any more.
#[derive(Debug, PartialEq)]
pub(super) struct NodeReplacement {
    pub(super) former: ConnectionAddr,
    pub(super) owner: ConnectionAddr,
    /// How many slots the new owner has.
    pub(super) slots: usize,
}

/// The nodes and the slots that one node reports: masters and replicas, and the owner of each slot.
#[derive(Debug, Default, PartialEq)]
pub(in super::super) struct ClusterSlots {
    pub(super) nodes: Vec<ConnectionAddr>,
    pub(super) map: SlotMap,
}

impl SlotMap {
    /// The owner of this slot, if it is known.
    pub(super) fn owner(&self, slot: u16) -> Option<&ConnectionAddr> {
        self.owners.get(usize::from(*self.by_slot.get(usize::from(slot))?))
    }

    /// The nodes that own any slot.
    pub(super) fn owners(&self) -> Vec<ConnectionAddr> {
        let mut owns = vec![false; self.owners.len()];
        for &at in &self.by_slot {
            if let Some(owns) = owns.get_mut(usize::from(at)) {
                *owns = true;
            }
        }
        let owners = self.owners.iter().zip(owns);
        owners.filter(|(_, owns)| *owns).map(|(owner, _)| owner.clone()).collect()
    }

    /// The nodes that own slots here and none in `newer`. With each are a node that owns some of these slots there, and how
    /// many slots that one owns.
    pub(super) fn replaced(&self, newer: &Self) -> Vec<NodeReplacement> {
        let owners = newer.owners();
        let gone = self.owners().into_iter().filter(|owner| !owners.contains(owner));
        let replacement = |former: ConnectionAddr| {
            let mut its_slots = (0..SLOTS).filter(|slot| self.owner(*slot) == Some(&former));
            let owner = its_slots.find_map(|slot| newer.owner(slot))?.clone();
            let slots = (0..SLOTS).filter(|slot| newer.owner(*slot) == Some(&owner)).count();
            Some(NodeReplacement { former, owner, slots })
        };
        gone.filter_map(replacement).collect()
    }

    /// Sets the owner of these slots. Ignores slots that do not exist.
    pub(super) fn set(&mut self, slots: std::ops::RangeInclusive<u16>, owner: &ConnectionAddr) {
        let known = self.owners.iter().position(|known| known == owner);
        if known.is_none() && self.owners.len() >= MAX_NODES {
            return;
        }
        let at = known.unwrap_or_else(|| {
            self.owners.push(owner.clone());
            self.owners.len() - 1
        });
        self.by_slot.resize(usize::from(SLOTS), NOBODY);
        let (first, last) = (usize::from(*slots.start()), usize::from(*slots.end()));
        if let (Some(range), Ok(at)) = (self.by_slot.get_mut(first..=last), u16::try_from(at)) {
            range.fill(at);
        }
    }
}

impl ClusterSlots {
    /// Parses a reply to `CLUSTER SLOTS`: `[[first, last, [host, port, id, …], …], …]`, the master before its replicas.
    /// A node that does not know its own host has the host of `asked`.
    pub(super) fn parse(slots: &Value, asked: &ConnectionAddr) -> Self {
        let mut parsed = Self::default();
        for range in array(slots) {
            let range = array(range);
            for (at, node) in range.iter().skip(2).enumerate() {
                let Some(node) = address(array(node), asked) else { continue };
                if at == 0
                    && let [Value::Integer(first), Value::Integer(last), ..] = range
                    && let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last))
                    && first <= last
                {
                    parsed.map.set(first..=last, &node);
                }
                if parsed.nodes.len() < MAX_NODES && !parsed.nodes.contains(&node) {
                    parsed.nodes.push(node);
                }
            }
        }
        parsed
    }
}

fn address(node: &[Value], asked: &ConnectionAddr) -> Option<ConnectionAddr> {
    let [host, Value::Integer(port), ..] = node else { return None };
    let host = host.as_bytes().and_then(|host| str::from_utf8(host).ok());
    node_address(host.unwrap_or_default(), &port.to_string(), asked)
}

/// The address of a node that another one names, which was asked at `asked`: without a host it is the same one.
pub(in super::super) fn node_address(
    host: &str,
    port: &str,
    asked: &ConnectionAddr,
) -> Option<ConnectionAddr> {
    let host = match (host, asked) {
        ("" | "?", ConnectionAddr::Tcp(own, _) | ConnectionAddr::TcpTls { host: own, .. }) => own,
        ("" | "?", _) => return None,
        (host, _) => host,
    };
    let (host, port) = host_and_port(host, port)?;
    Some(at_same_tls(asked, host, port))
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(parts) => parts,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use redis::ConnectionAddr;
    use ssegate_resp::Value;

    use super::{ClusterSlots, NodeReplacement, SlotMap};

    fn at(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
    }

    #[test]
    fn nodes_and_owners_are_read_from_what_redis_replies() {
        let text = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
        let node = |host: Value, port| Value::Array(vec![host, Value::Integer(port), text("id")]);
        let range = |first, nodes: Vec<Value>| {
            let ends = vec![Value::Integer(first), Value::Integer(first + 99)];
            Value::Array(ends.into_iter().chain(nodes).collect())
        };
        let slots = Value::Array(vec![
            range(0, vec![node(text("10.0.0.1"), 7), node(text("10.0.0.1"), 8)]),
            range(100, vec![node(text("10.0.0.1"), 7), node(text("a b"), 9), node(text("x"), 0)]),
            range(200, vec![node(Value::Null, 10), node(text(""), 11), node(text("?"), 12)]),
            range(70_000, vec![node(text("10.0.0.1"), 7)]),
            Value::Null,
            range(300, vec![Value::Null]),
        ]);
        let parsed = ClusterSlots::parse(&slots, &at(7));
        assert_eq!(parsed.nodes, [at(7), at(8), at(10), at(11), at(12)]);
        for (slot, owner) in [(0, Some(7)), (199, Some(7)), (200, Some(10)), (300, None)] {
            assert_eq!(parsed.map.owner(slot).cloned(), owner.map(at), "{slot}");
        }
        let tls = ConnectionAddr::TcpTls {
            host: "a".to_owned(),
            port: 1,
            insecure: true,
            tls_params: None,
        };
        let found = ClusterSlots::parse(&slots, &tls).nodes;
        assert!(
            found.iter().all(|node| matches!(node, ConnectionAddr::TcpTls { insecure: true, .. }))
        );
        assert_eq!(ClusterSlots::parse(&Value::Null, &at(7)), ClusterSlots::default());
    }

    #[test]
    fn one_slot_moves_alone() {
        let mut map = SlotMap::default();
        assert_eq!(map.owner(5), None);
        map.set(0..=100, &at(1));
        map.set(5..=5, &at(2));
        map.set(16_384..=16_384, &at(3));
        assert_eq!(
            [4, 5, 6].map(|slot| map.owner(slot)),
            [Some(&at(1)), Some(&at(2)), Some(&at(1))]
        );
        assert_eq!(map.owner(101), None);
    }

    #[test]
    fn a_node_is_replaced_when_it_owns_nothing_any_more() {
        let (mut map, mut newer) = (SlotMap::default(), SlotMap::default());
        assert_eq!(map.replaced(&newer), []);
        map.set(0..=99, &at(1));
        map.set(100..=199, &at(2));
        assert_eq!(SlotMap::default().replaced(&map), [], "nothing was known before");
        newer.set(0..=98, &at(3));
        newer.set(99..=199, &at(1));
        // A slot that is left is a move of slots, and 2 has given all of its own away.
        let replaced =
            |former, owner, slots| NodeReplacement { former: at(former), owner: at(owner), slots };
        assert_eq!(map.replaced(&newer), [replaced(2, 1, 101)]);
        newer.set(99..=99, &at(3));
        newer.set(100..=199, &at(2));
        assert_eq!(map.replaced(&newer), [replaced(1, 3, 100)]);
        assert_eq!(newer.replaced(&newer.clone()), []);
    }
}
