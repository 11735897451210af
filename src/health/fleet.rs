//! Whether clients can resume at another gateway, as far as this one knows.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::ReadinessCheck;

/// How long the warning lasts after a message of another gateway was ignored. Other gateways publish some with each
/// start, and each second while events come.
const IGNORED_IS_REPORTED: Duration = Duration::from_secs(300);

/// The health of the gateway as one of a fleet.
#[derive(Debug, Default)]
pub(super) struct FleetHealth {
    /// The gateway is one of several, or may be.
    pub(super) is_expected: bool,
    /// The same for sharded channels, which have orders of their own.
    pub(super) is_expected_at_nodes: bool,
    /// It follows what the others follow.
    pub(super) is_warm: bool,
    /// The same of sharded channels.
    pub(super) is_warm_at_nodes: bool,
    /// Why it does not receive what they publish.
    pub(super) follow_problems: FleetProblems,
    /// Why it cannot publish for them.
    pub(super) publish_problems: FleetProblems,
    /// Why a message of another gateway was ignored, and when that was.
    pub(super) ignored: Option<(&'static str, Instant)>,
}

/// For each node without a fleet, why there is none. The key of a plain server is empty.
#[derive(Debug, Default)]
pub(super) struct FleetProblems(BTreeMap<String, String>);

impl FleetProblems {
    /// Records whether the fleet works at this node.
    pub(super) fn set(&mut self, node: Option<&str>, result: Result<(), String>) {
        let node = node.unwrap_or_default();
        match result {
            Ok(()) => self.0.remove(node),
            Err(why) => self.0.insert(node.to_owned(), why),
        };
    }

    fn first(&self) -> Option<String> {
        let (node, why) = self.0.first_key_value()?;
        Some(if node.is_empty() { why.clone() } else { format!("node {node}: {why}") })
    }
}

impl FleetHealth {
    /// The readiness check; `None` for a gateway on its own, and where [`Self::warning`] says that there is no fleet: a
    /// gateway that others cannot replace still serves its clients. `obstacle` is another reason why clients cannot
    /// resume elsewhere, for a gateway that is warm.
    pub(super) fn check(&self, obstacle: Option<&str>) -> Option<ReadinessCheck> {
        let passes = self.is_all_warm();
        let detail = match passes {
            true if !self.is_expected => {
                "clients of sharded channels can resume at another gateway"
            }
            true => "clients can resume at another gateway",
            false => "this gateway does not yet follow what the others follow",
        };
        let detail = Some(detail.to_owned());
        let is_told = self.is_any_expected() && !(passes && self.problem(obstacle).is_some());
        let (name, about, is_degraded) = ("fleet", "fleet", false);
        is_told.then_some(ReadinessCheck { name, about, passes, is_degraded, detail })
    }

    /// Why clients cannot resume at another gateway, or not at all of them, if so.
    pub(super) fn warning(&self, obstacle: Option<&str>, now: Instant) -> Option<String> {
        if let Some(problem) =
            self.problem(obstacle).filter(|_| self.is_any_expected() && self.is_all_warm())
        {
            return Some(format!("clients cannot resume at another gateway: {problem}"));
        }
        let (why, at) = self.ignored?;
        let is_new = now.saturating_duration_since(at) < IGNORED_IS_REPORTED;
        is_new.then(|| {
            format!(
                "clients of some gateways at this Redis cannot resume here: ignored a message of another gateway, because \
                 {why}"
            )
        })
    }

    /// Whether it is one of a fleet, with plain channels or with sharded ones.
    pub(super) fn is_any_expected(&self) -> bool {
        self.is_expected || self.is_expected_at_nodes
    }

    fn is_all_warm(&self) -> bool {
        (self.is_warm || !self.is_expected) && (self.is_warm_at_nodes || !self.is_expected_at_nodes)
    }

    /// Why clients cannot resume at another gateway. A reason that every gateway finds by itself comes first, so that
    /// all report the same.
    fn problem(&self, obstacle: Option<&str>) -> Option<String> {
        let own = || self.follow_problems.first().or_else(|| self.publish_problems.first());
        obstacle.map(str::to_owned).or_else(own)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{FleetHealth, IGNORED_IS_REPORTED};

    #[test]
    fn a_gateway_that_starts_is_not_ready_and_a_fleet_that_is_refused_is_no_reason() {
        let mut health = FleetHealth::default();
        assert_eq!(health.check(None), None, "it is on its own");
        health.is_expected = true;
        let check = |health: &FleetHealth| {
            let check = health.check(None).expect("it is one of a fleet");
            (check.passes, check.detail.expect("a detail"))
        };
        assert!(!check(&health).0);
        health.is_warm = true;
        assert_eq!(check(&health), (true, "clients can resume at another gateway".to_owned()));
        // The obstacle is reported in place of the other warning.
        let warning = health.warning(Some("node a:1 cannot be used"), Instant::now());
        let told = "clients cannot resume at another gateway: node a:1 cannot be used";
        assert_eq!(warning.as_deref(), Some(told));
        assert_eq!(health.check(Some("node a:1 cannot be used")), None);
        health.publish_problems.set(None, Err("NOPERM".to_owned()));
        let told = "clients cannot resume at another gateway: NOPERM";
        let warning = health.warning(None, Instant::now());
        assert_eq!((health.check(None), warning.as_deref()), (None, Some(told)));
    }

    #[test]
    fn sharded_channels_are_waited_for_beside_the_others() {
        let check =
            |health: &FleetHealth| health.check(None).map(|check| (check.passes, check.detail));
        let mut health = FleetHealth { is_expected_at_nodes: true, ..FleetHealth::default() };
        assert!(check(&health).is_some_and(|(passes, _)| !passes));
        health.is_warm_at_nodes = true;
        let of_sharded = "clients of sharded channels can resume at another gateway";
        assert_eq!(check(&health), Some((true, Some(of_sharded.to_owned()))));
        health.is_expected = true;
        assert!(check(&health).is_some_and(|(passes, _)| !passes));
        health.is_warm = true;
        let of_all = "clients can resume at another gateway";
        assert_eq!(check(&health), Some((true, Some(of_all.to_owned()))));
        health.is_warm_at_nodes = false;
        assert!(check(&health).is_some_and(|(passes, _)| !passes));
    }

    #[test]
    fn a_gateway_with_another_key_is_told_of_for_a_while() {
        let now = Instant::now();
        let health =
            FleetHealth { ignored: Some(("it is not signed", now)), ..FleetHealth::default() };
        let warning = health.warning(None, now + IGNORED_IS_REPORTED / 2).expect("it is new");
        assert!(warning.ends_with("because it is not signed"), "{warning}");
        assert_eq!(health.warning(None, now + IGNORED_IS_REPORTED), None);
    }
}
