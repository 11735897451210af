//! Whether clients can resume at another gateway, as far as this one knows.

use super::ReadinessCheck;

/// The health of the gateway as one of a fleet.
#[derive(Debug, Default)]
pub(super) struct FleetHealth {
    /// The gateway is one of several, or may be.
    pub(super) is_expected: bool,
    /// It follows what the others follow.
    pub(super) is_warm: bool,
    /// Why it does not hear what they publish.
    pub(super) follow_problem: Option<String>,
    /// Why it cannot publish for them.
    pub(super) publish_problem: Option<String>,
}

impl FleetHealth {
    /// The readiness check; `None` for a gateway on its own, and where [`Self::warning`] says that there is no fleet:
    /// a gateway that others cannot replace serves its clients all the same.
    pub(super) fn check(&self) -> Option<ReadinessCheck> {
        let detail = match self.is_warm {
            true => "clients can resume at another gateway",
            false => "this gateway does not yet follow what the others follow",
        };
        let (passes, detail) = (self.is_warm, Some(detail.to_owned()));
        let is_told = self.is_expected && !(self.is_warm && self.problem().is_some());
        is_told.then_some(ReadinessCheck { name: "fleet", about: "fleet", passes, detail })
    }

    /// Why clients cannot resume at another gateway, if they cannot.
    pub(super) fn warning(&self) -> Option<String> {
        let problem = self.problem().filter(|_| self.is_expected && self.is_warm)?;
        Some(format!("clients cannot resume at another gateway: {problem}"))
    }

    fn problem(&self) -> Option<&String> {
        self.follow_problem.as_ref().or(self.publish_problem.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::FleetHealth;

    #[test]
    fn a_gateway_that_starts_is_not_ready_and_a_fleet_that_is_refused_is_no_reason() {
        let mut health = FleetHealth::default();
        assert_eq!(health.check(), None, "it is on its own");
        health.is_expected = true;
        let check = |health: &FleetHealth| {
            let check = health.check().expect("it is one of a fleet");
            (check.passes, check.detail.expect("a detail"))
        };
        assert!(!check(&health).0);
        health.is_warm = true;
        assert_eq!(check(&health), (true, "clients can resume at another gateway".to_owned()));
        health.publish_problem = Some("NOPERM".to_owned());
        let told = "clients cannot resume at another gateway: NOPERM";
        assert_eq!((health.check(), health.warning().as_deref()), (None, Some(told)));
    }
}
