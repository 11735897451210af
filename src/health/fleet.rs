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
    /// The readiness check; `None` for a gateway on its own.
    pub(super) fn check(&self) -> Option<ReadinessCheck> {
        let problem = self.follow_problem.as_ref().or(self.publish_problem.as_ref());
        let detail = match problem {
            _ if !self.is_warm => "this gateway does not yet follow what the others follow".into(),
            None => "clients can resume at another gateway".into(),
            Some(why) => format!("clients cannot resume at another gateway: {why}"),
        };
        // A gateway that others cannot replace serves its clients all the same.
        let passes = self.is_warm;
        let check = ReadinessCheck { name: "fleet", about: "fleet", passes, detail: Some(detail) };
        self.is_expected.then_some(check)
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
        assert_eq!(check(&health), (true, told.to_owned()));
    }
}
