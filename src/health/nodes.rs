//! Which nodes of a Cluster can be used, of those that own slots.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::ReadinessCheck;
use super::incident::Incident;

/// Nodes that are named, at most.
const MAX_NAMED: usize = 5;

/// The state of a node of a Cluster that owns slots, at the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its address.
    pub node: String,
    /// Why it cannot be used: the kind of the failure, and its text. `None`: it can.
    pub failure: Option<(&'static str, String)>,
}

/// The nodes of a Cluster that own slots, as of the last check.
#[derive(Debug, Default)]
pub(super) struct NodeHealths {
    // 0: not a Cluster, or no owner is known.
    owners: usize,
    // By address.
    down: BTreeMap<String, Incident>,
}

impl NodeHealths {
    /// Records the states of all nodes that own slots. Other nodes are forgotten.
    pub(super) fn set(&mut self, nodes: &[NodeState], now: SystemTime) {
        self.owners = nodes.len();
        let mut before = std::mem::take(&mut self.down);
        for NodeState { node, failure } in nodes {
            let Some((kind, error)) = failure else { continue };
            let incident = match before.remove(node) {
                Some(mut incident) => {
                    incident.recur(kind, error.as_str(), now);
                    incident
                }
                None => Incident::new(kind, error.as_str(), now),
            };
            self.down.insert(node.clone(), incident);
        }
    }

    /// The first node that gateways cannot reach. One that only refuses keys (`CLUSTERDOWN`) still carries what they
    /// publish for each other.
    pub(super) fn first_away(&self) -> Option<&str> {
        let is_away = |(_, incident): &(&String, &Incident)| !incident.is_one_of(&["refused"]);
        self.down.iter().find(is_away).map(|(node, _)| node.as_str())
    }

    /// The check. It never fails: the other nodes still work, and no gateway could reach the one that is down. `None`:
    /// there are no nodes.
    pub(super) fn check(&self) -> Option<ReadinessCheck> {
        let (owners, down) = (self.owners, self.down.len());
        if owners == 0 {
            return None;
        }
        let named = self.down.iter().take(MAX_NAMED);
        let mut named: Vec<_> =
            named.map(|(node, incident)| format!("{node}: {incident}")).collect();
        if down > MAX_NAMED {
            named.push(format!("{} more", down - MAX_NAMED));
        }
        let detail = match down {
            0 => format!("{owners} of {owners} nodes that own slots can be used"),
            _ => format!(
                "{down} of {owners} nodes that own slots cannot be used: {}",
                named.join("; ")
            ),
        };
        Some(ReadinessCheck {
            name: "cluster",
            about: "redis cluster",
            passes: true,
            is_degraded: down > 0,
            detail: Some(detail),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{MAX_NAMED, NodeHealths, NodeState};

    fn state(node: &str, failure: Option<&str>) -> NodeState {
        let failure = failure.map(|error| ("connection", error.to_owned()));
        NodeState { node: node.to_owned(), failure }
    }

    #[test]
    fn a_node_that_is_down_is_named_since_when_until_it_works_or_owns_nothing() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut nodes = NodeHealths::default();
        assert_eq!(nodes.check(), None);
        let told = |nodes: &NodeHealths| {
            let check = nodes.check().expect("a Cluster");
            assert!(check.passes);
            (check.is_degraded, check.detail.expect("a detail"))
        };
        nodes.set(&[state("a:1", None), state("b:1", None)], at(0));
        assert_eq!(told(&nodes), (false, "2 of 2 nodes that own slots can be used".to_owned()));
        for second in [5, 10] {
            nodes.set(&[state("a:1", None), state("b:1", Some("refused"))], at(second));
        }
        let expected = "1 of 2 nodes that own slots cannot be used: b:1: connection: refused; since \
                        1970-01-01T00:00:05Z, 2 times, last 1970-01-01T00:00:10Z";
        assert_eq!(told(&nodes), (true, expected.to_owned()));
        assert_eq!(nodes.first_away(), Some("b:1"));
        let refuses = Some(("refused", "CLUSTERDOWN".to_owned()));
        nodes.set(&[NodeState { node: "a:1".into(), failure: refuses }], at(12));
        assert!(told(&nodes).0 && nodes.first_away().is_none(), "it carries what gateways publish");
        // Its replica has taken its place.
        nodes.set(&[state("a:1", None), state("c:1", None)], at(15));
        assert!(!told(&nodes).0 && nodes.first_away().is_none());
    }

    #[test]
    fn the_nodes_that_are_named_are_bounded() {
        let all: Vec<_> =
            (0..20).map(|port| state(&format!("a:{port}"), Some("refused"))).collect();
        let mut nodes = NodeHealths::default();
        nodes.set(&all, SystemTime::UNIX_EPOCH);
        let detail = nodes.check().and_then(|check| check.detail).expect("a detail");
        assert!(detail.starts_with("20 of 20 ") && detail.ends_with("; 15 more"), "{detail}");
        assert_eq!(detail.matches("refused").count(), MAX_NAMED);
    }
}
