//! Connections to nodes that were lost, until they are back: one line of the log for each outage, and one for its end.

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::time::Instant;

use super::server::RedisServer;

/// Nodes that are remembered, at most: one that has left the Cluster does not come back.
const MAX_NODES: usize = 1000;
/// How often an outage is logged again while it lasts.
const REPEAT_INTERVAL: Duration = Duration::from_secs(300);
/// The least time between two outages of a node that are logged: it may accept connections, and close each.
const OUTAGE_INTERVAL: Duration = Duration::from_secs(10);
/// After this long without an attempt to connect, nobody knows when the node was back.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Whether the loss of a connection is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeLoss {
    /// Nothing was pending on it: this is no failure.
    Idle,
    /// The outage was logged, and lasts.
    Known,
    /// It is to be logged.
    New,
}

/// The nodes to which connections of one kind were lost. Logs when one is back.
#[derive(Debug)]
pub(super) struct NodeOutages {
    server: RedisServer,
    // `None`: what uses the connections says itself what is away.
    is_back: Option<&'static str>,
    lost: LostNodes,
}

impl NodeOutages {
    /// Those of the nodes of `server`. `is_back` is logged when a node is connected again.
    pub(super) fn new(server: &RedisServer, is_back: Option<&'static str>) -> Self {
        Self { server: server.clone(), is_back, lost: LostNodes::default() }
    }

    /// A connection to this node was lost, or could not be opened. `None`: the one server. Without a reason to be connected
    /// it `was_idle`.
    pub(super) fn lose(&mut self, node: Option<&ConnectionAddr>, was_idle: bool) -> NodeLoss {
        match was_idle {
            true => NodeLoss::Idle,
            false => self.lost.note(node, Instant::now()),
        }
    }

    /// A connection to this node is open.
    pub(super) fn open(&mut self, node: Option<&ConnectionAddr>) {
        if let (Some(away), Some(is_back)) = (self.lost.take(node, Instant::now()), self.is_back) {
            let node = self.server.shown(node);
            tracing::info!(node, seconds_away = away.as_secs(), "{is_back}");
        }
    }
}

/// The nodes that were lost. Pure: time is passed in.
#[derive(Debug, Default)]
struct LostNodes(Vec<LostNode>);

#[derive(Debug)]
struct LostNode {
    node: Option<ConnectionAddr>,
    is_away: bool,
    // When the present outage has begun, and the last attempt to connect.
    since: Instant,
    tried: Instant,
    // When an outage was last logged, and whether the present one was.
    logged: Instant,
    is_logged: bool,
}

impl LostNodes {
    /// There is no connection to this node at the moment. Returns whether to log that.
    fn note(&mut self, node: Option<&ConnectionAddr>, now: Instant) -> NodeLoss {
        let Some(lost) = self.0.iter_mut().find(|lost| lost.node.as_ref() == node) else {
            if self.0.len() == MAX_NODES {
                self.0.remove(0);
            }
            let (since, tried, logged) = (now, now, now);
            let node = node.cloned();
            self.0.push(LostNode { node, is_away: true, since, tried, logged, is_logged: true });
            return NodeLoss::New;
        };
        if !lost.is_away || now >= lost.tried + MAX_PAUSE {
            (lost.is_away, lost.since, lost.is_logged) = (true, now, false);
        }
        lost.tried = now;
        let pause = if lost.is_logged { REPEAT_INTERVAL } else { OUTAGE_INTERVAL };
        if now < lost.logged + pause {
            return NodeLoss::Known;
        }
        (lost.logged, lost.is_logged) = (now, true);
        NodeLoss::New
    }

    /// A connection to this node is open. Returns for how long there was none, if that was logged.
    fn take(&mut self, node: Option<&ConnectionAddr>, now: Instant) -> Option<Duration> {
        let mut lost = self.0.iter_mut().filter(|lost| lost.is_away);
        let lost = lost.find(|lost| lost.node.as_ref() == node)?;
        lost.is_away = false;
        let is_told = lost.is_logged && now < lost.tried + MAX_PAUSE;
        is_told.then(|| now.saturating_duration_since(lost.since))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redis::ConnectionAddr;
    use tokio::time::Instant;

    use super::{LostNodes, MAX_NODES, MAX_PAUSE, NodeLoss, OUTAGE_INTERVAL, REPEAT_INTERVAL};

    fn at(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("10.0.0.1".to_owned(), port)
    }

    #[test]
    fn a_node_is_back_once_for_each_time_that_it_was_lost() {
        let (mut lost, now) = (LostNodes::default(), Instant::now());
        assert_eq!(lost.take(None, now), None, "it is open for the first time");
        assert_eq!(lost.note(None, now), NodeLoss::New);
        assert_eq!(lost.note(Some(&at(1)), now), NodeLoss::New, "each node by itself");
        let second = Duration::from_secs(1);
        assert_eq!(lost.take(None, now + second), Some(second));
        assert_eq!(lost.take(None, now), None);
        for port in (2..).take(MAX_NODES) {
            lost.note(Some(&at(port)), now);
        }
        assert_eq!(lost.take(Some(&at(1)), now), None, "the oldest is forgotten");
        assert_eq!(lost.take(Some(&at(3)), now), Some(Duration::ZERO));
    }

    #[test]
    fn an_outage_is_logged_once_and_again_after_some_minutes() {
        let (mut lost, start) = (LostNodes::default(), Instant::now());
        let logged: Vec<u64> = (0..=REPEAT_INTERVAL.as_secs() + 1)
            .filter(|second| lost.note(None, start + Duration::from_secs(*second)) == NodeLoss::New)
            .collect();
        assert_eq!(logged, [0, REPEAT_INTERVAL.as_secs()]);
        let end = start + REPEAT_INTERVAL + Duration::from_secs(2);
        assert_eq!(lost.take(None, end), Some(end - start), "since it was lost, not logged");
    }

    #[test]
    fn a_connection_that_is_lost_again_and_again_does_not_fill_the_log() {
        let (mut lost, start) = (LostNodes::default(), Instant::now());
        let at = |tenth: u32| start + Duration::from_millis(100) * tenth;
        let (mut told, mut back) = (0, 0);
        for tenth in 0..300 {
            told += u32::from(lost.note(None, at(tenth)) == NodeLoss::New);
            back += u32::from(lost.take(None, at(tenth)).is_some());
        }
        assert_eq!((told, back), (3, 3));
        // It stays away this time: that is logged as soon as it may be.
        assert_eq!(lost.note(None, at(299)), NodeLoss::Known);
        assert_eq!(lost.note(None, at(200) + OUTAGE_INTERVAL), NodeLoss::New);
    }

    #[test]
    fn a_node_that_nobody_has_tried_to_reach_is_not_said_to_have_been_away() {
        let (mut lost, now) = (LostNodes::default(), Instant::now());
        lost.note(None, now);
        // Another node owned its slots meanwhile.
        assert_eq!(lost.take(None, now + MAX_PAUSE), None);
        lost.note(None, now + MAX_PAUSE);
        let later = now + 3 * MAX_PAUSE;
        assert_eq!(lost.note(None, later), NodeLoss::New, "it is another outage");
        assert_eq!(lost.take(None, later), Some(Duration::ZERO));
    }
}
