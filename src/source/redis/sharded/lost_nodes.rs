//! Connections to nodes that were lost, until they are back. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::channels::ShardPlace;

/// Nodes that are remembered, at most: one that has left the Cluster does not come back.
const MAX_NODES: usize = 1000;

/// The nodes whose connections were lost, and since when each has been away.
#[derive(Debug, Default)]
pub(super) struct LostNodes(Vec<(ShardPlace, Instant)>);

impl LostNodes {
    /// An open connection to this node is lost.
    pub(super) fn note(&mut self, node: &ShardPlace, now: Instant) {
        if self.0.len() == MAX_NODES {
            self.0.remove(0);
        }
        self.0.push((node.clone(), now));
    }

    /// A connection to this node is open. Returns for how long there was none, if one was lost.
    pub(super) fn take(&mut self, node: &ShardPlace, now: Instant) -> Option<Duration> {
        let at = self.0.iter().position(|(lost, _)| lost == node)?;
        let (_, since) = self.0.remove(at);
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LostNodes, MAX_NODES};

    #[test]
    fn a_node_is_back_once_for_each_time_that_it_was_lost() {
        let (mut lost, now) = (LostNodes::default(), Instant::now());
        let port = |port| Some(redis::ConnectionAddr::Tcp("10.0.0.1".to_owned(), port));
        assert_eq!(lost.take(&None, now), None, "it is open for the first time");
        lost.note(&None, now);
        lost.note(&port(1), now);
        let second = Duration::from_secs(1);
        assert_eq!(lost.take(&None, now + second), Some(second));
        assert_eq!(lost.take(&None, now), None);
        (2..).take(MAX_NODES).for_each(|number| lost.note(&port(number), now));
        assert_eq!(lost.take(&port(1), now), None, "the oldest is forgotten");
        assert_eq!(lost.take(&port(2), now), Some(Duration::ZERO));
    }
}
