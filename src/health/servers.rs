//! The health of a gateway whose source is several servers: each has a health of its own, and a name.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::outages::Outage;
use super::{Health, HealthState, ReadinessCheck, Warning, lock};

/// The kinds of failures where Redis refuses a command.
const REFUSALS: [&str; 2] = ["permission", "refused"];

/// The servers of a gateway that has more than one.
#[derive(Debug, Default)]
pub(super) struct ServerHealths {
    // The name of the first server, and the others.
    first: Arc<str>,
    further: Vec<(Arc<str>, Health)>,
}

impl Health {
    /// The health of each of these servers, in order. With several servers, the gateway is healthy if all of them
    /// are. Called once, at the start.
    pub fn for_servers(&self, names: &[Arc<str>]) -> Vec<Self> {
        let further: Vec<_> =
            names.iter().skip(1).map(|name| (Arc::clone(name), Self::default())).collect();
        let mut all = vec![self.clone()];
        all.extend(further.iter().map(|(_, health)| health.clone()));
        if let (Some(first), false) = (names.first(), further.is_empty()) {
            self.0.servers.get_or_init(|| ServerHealths { first: Arc::clone(first), further });
        }
        all
    }
}

impl HealthState {
    /// The servers, each with its name if there are several.
    fn servers(&self) -> impl Iterator<Item = (Option<&str>, &Self)> {
        let several = self.servers.get();
        let first = several.map(|several| &*several.first);
        let further = several.into_iter().flat_map(|several| &several.further);
        [(first, self)].into_iter().chain(further.map(|(name, health)| (Some(&**name), &*health.0)))
    }

    /// Whether all sources of all servers are ready.
    pub(super) fn are_servers_ready(&self) -> bool {
        self.servers().all(|(_, server)| server.are_sources_ready())
    }

    /// What is wrong with the sources, with the name of each server.
    pub(super) fn server_incidents(&self) -> Option<String> {
        let incident = |(name, server): (Option<&str>, &Self)| {
            let incident = server.source_incidents()?;
            Some(named(name, incident))
        };
        let incidents: Vec<_> = self.servers().filter_map(incident).collect();
        (!incidents.is_empty()).then(|| incidents.join("; "))
    }

    /// The last outages of all sources, each with the name of the source.
    pub(super) fn server_outages(&self) -> impl Iterator<Item = (String, Outage)> {
        self.servers().flat_map(|(server, health)| {
            let own = [(&health.source, "Redis")].into_iter().chain(health.further_sources());
            own.flat_map(move |(source, name)| {
                let name = match server {
                    Some(server) => format!("{name} ({server})"),
                    None => name.to_owned(),
                };
                source.outages().into_iter().map(move |outage| (name.clone(), outage))
            })
        })
    }

    /// The check of the fleet: with several servers, that of the first one that fails, with its name. If none fails,
    /// it names the servers without a fleet.
    pub(super) fn fleet_check(&self) -> Option<ReadinessCheck> {
        let is_off = |(name, server): (Option<&str>, &Self)| {
            let is_off = !lock(&server.fleet).is_any_expected();
            is_off.then(|| name.unwrap_or_default().to_owned())
        };
        let off: Vec<_> = self.servers().filter_map(is_off).collect();
        let checks = self.servers().filter_map(|(name, server)| {
            let obstacle = server.fleet_obstacle();
            let check = lock(&server.fleet).check(obstacle.as_deref())?;
            let name = name.filter(|_| !check.passes);
            let detail = check.detail.map(|detail| named(name, detail));
            let detail = detail.map(|detail| match check.passes && !off.is_empty() {
                true => format!("{detail}, except with channels of {}", off.join(", ")),
                false => detail,
            });
            Some(ReadinessCheck { detail, ..check })
        });
        checks.min_by_key(|check| check.passes)
    }

    /// The check of the nodes, of all Clusters together.
    pub(super) fn nodes_check(&self) -> Option<ReadinessCheck> {
        let checks = self.servers().filter_map(|(name, server)| {
            let check = lock(&server.nodes).check()?;
            let detail = check.detail.map(|detail| named(name, detail));
            Some(ReadinessCheck { detail, ..check })
        });
        checks.reduce(|all, check| ReadinessCheck {
            is_degraded: all.is_degraded || check.is_degraded,
            detail: Some(
                [all.detail, check.detail].into_iter().flatten().collect::<Vec<_>>().join("; "),
            ),
            ..check
        })
    }

    /// Why clients cannot resume at another gateway although the fleet works: a node is down, or Redis refuses the
    /// marks and scripts of recorded channels. A subscription that it refuses does not count: the client chooses the
    /// channel.
    fn fleet_obstacle(&self) -> Option<String> {
        if lock(&self.fleet).is_expected_at_nodes
            && let Some(node) = lock(&self.nodes).first_away()
        {
            return Some(format!("node {node} cannot be used"));
        }
        let recordings = [
            (&self.recording, "recorded channels"),
            (&self.sharded_recording, "recorded sharded channels"),
        ];
        recordings.into_iter().find_map(|(source, name)| {
            let refusal = source.refusal().filter(|refusal| refusal.is_one_of(&REFUSALS))?;
            Some(format!("{name}: {refusal}"))
        })
    }

    /// The masters that sentinels name, where nothing is wrong with the sentinels.
    pub(super) fn masters(&self) -> Option<String> {
        let masters = self.servers().filter_map(|(name, server)| {
            let master = lock(&server.sentinels).clone()?.ok()?;
            Some(named(name, master))
        });
        let masters: Vec<_> = masters.collect();
        (!masters.is_empty()).then(|| masters.join("; "))
    }

    /// The warnings of each server.
    pub(super) fn server_warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (index, (name, server)) in self.servers().enumerate() {
            let about = |what: &str| match name {
                Some(name) => format!("{what} of {name}"),
                None => what.to_owned(),
            };
            if let Some(Err(problem)) = &*lock(&server.sentinels) {
                warnings.push(Warning { about: about("sentinels"), detail: problem.clone() });
            }
            let obstacle = server.fleet_obstacle();
            let warning = lock(&server.fleet).warning(obstacle.as_deref(), Instant::now());
            if let Some(detail) = warning {
                warnings.push(Warning { about: about("fleet"), detail });
            }
            // Those of the first server are listed with the problems of the whole gateway.
            if index > 0 {
                for (what, incident) in lock(&server.recurring).list(SystemTime::now()) {
                    warnings.push(Warning { about: about(what), detail: incident.to_string() });
                }
            }
        }
        warnings
    }
}

/// The text about a server, after its name if it has one.
fn named(name: Option<&str>, text: String) -> String {
    match name {
        Some(name) => format!("{name}: {text}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    #[test]
    fn the_server_that_is_away_is_named() {
        let health = Health::default();
        let servers = health.for_servers(&["url".into(), "orders".into()]);
        let redis = || {
            let redis = health.checks().swap_remove(0);
            (redis.passes, redis.detail.unwrap_or_default())
        };
        assert!(!redis().0);
        servers.iter().for_each(|server| server.set_source_ready(true));
        assert_eq!(redis(), (true, String::new()));
        servers[1].set_source_ready(false);
        servers[1].source_failed("connection", "refused");
        let (passes, detail) = redis();
        assert!(!passes && detail.starts_with("orders: connection: refused; since "), "{detail}");
        servers[1].set_source_ready(true);
        let outages = health.outages();
        assert_eq!(outages.len(), 1);
        assert_eq!(outages[0].0, "Redis (orders)");
        servers[1].expect_fleet();
        assert!(!health.is_fleet_warm());
        let fleet = health.checks().pop().expect("a fleet").detail.expect("why");
        assert!(fleet.starts_with("orders: this gateway does not yet"), "{fleet}");
        servers[1].set_fleet_warm(true);
        let fleet = health.checks().pop().expect("a fleet").detail.expect("what is so");
        let but = "clients can resume at another gateway, except with channels of url";
        assert_eq!(fleet, but);
        servers[1].set_fleet_published(None, Err("NOPERM".into()));
        assert!(health.is_fleet_warm());
        servers[1].failed("recorded logs", "refused", "NOPERM");
        let about: Vec<_> = health.warnings().into_iter().map(|warning| warning.about).collect();
        assert_eq!(about, ["fleet of orders", "recorded logs of orders"]);
    }

    #[test]
    fn no_fleet_is_well_while_redis_refuses_the_marks_of_recorded_channels() {
        let health = Health::default();
        health.set_source_ready(true);
        health.expect_fleet_at_nodes(true);
        health.set_fleet_warm_at_nodes(true);
        let of_fleet = || health.checks().into_iter().find(|check| check.name == "fleet");
        let check = of_fleet().expect("a fleet");
        let detail = "clients of sharded channels can resume at another gateway";
        assert!(check.passes && check.detail.as_deref() == Some(detail), "{check:?}");
        health.set_sharded_recording_ready(true);
        health.sharded_recording_failed("timeout", "no reply");
        assert!(of_fleet().is_some(), "Redis has refused nothing");
        health.sharded_recording_failed("permission", "SSUBSCRIBE to the channel \"x\": NOPERM");
        assert!(of_fleet().is_some(), "a client has asked for that channel");
        health.sharded_recording_refused("permission", "SPUBLISH: NOPERM");
        assert_eq!(of_fleet(), None);
        let redis = health.checks().swap_remove(0);
        assert!(redis.passes && redis.is_degraded, "{redis:?}");
        let warning = health.warnings().pop().expect("a warning");
        let told = "clients cannot resume at another gateway: recorded sharded channels: \
                    permission: SPUBLISH: NOPERM; since ";
        assert!(warning.about == "fleet" && warning.detail.starts_with(told), "{warning:?}");
        health.sharded_recording_failed("permission", "SSUBSCRIBE to the channel \"x\": NOPERM");
        assert_eq!(of_fleet(), None, "the mark is still refused");
    }

    #[test]
    fn a_gateway_stays_ready_while_nodes_are_down_and_each_says_the_same_of_them() {
        use crate::health::NodeState;
        // One gateway was connected to the node before, and has a failure of its own; the other one was not.
        let [one, other] = [Health::default(), Health::default()];
        let said = [&one, &other].map(|health| {
            health.set_source_ready(true);
            health.expect_fleet_at_nodes(true);
            health.set_fleet_warm_at_nodes(true);
            if std::ptr::eq(health, &one) {
                health.set_fleet_published(Some("a:1"), Err("Broken pipe".into()));
            }
            let (node, failure) = ("a:1".to_owned(), Some(("connection", "refused".to_owned())));
            health.set_nodes(&[NodeState { node, failure }]);
            let check = health.checks().into_iter().find(|check| check.name == "cluster");
            let check = check.expect("a Cluster");
            assert!(health.checks().iter().all(|check| check.passes) && check.is_degraded);
            let fleet = health.warnings().pop().map(|warning| warning.detail);
            (check.detail.map(|detail| detail.split("; since").next().map(str::to_owned)), fleet)
        });
        assert_eq!(said[0], said[1]);
        one.set_nodes(&[]);
        assert!(one.checks().iter().all(|check| check.name != "cluster"));
    }

    #[test]
    fn one_server_has_no_name() {
        let health = Health::default();
        assert_eq!(health.for_servers(&["url".into()]).len(), 1);
        assert_eq!(health.checks()[0].detail.as_deref(), Some("not connected yet"));
    }
}
