//! What the gateway reports of itself: a check for each thing that it needs, and warnings.

/// A readiness check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadinessCheck {
    /// Its name, which `?exclude=` accepts.
    pub name: &'static str,
    /// What it checks, for people.
    pub about: &'static str,
    /// Whether it passes.
    pub passes: bool,
    /// Whether it passes although a part does not work.
    pub is_degraded: bool,
    /// Why it fails, or a problem that does not fail it.
    pub detail: Option<String>,
}

impl ReadinessCheck {
    /// A check that fails for this reason, or passes without one.
    pub(super) fn failing_for(name: &'static str, reason: Option<String>) -> Self {
        let passes = reason.is_none();
        Self { name, about: name, passes, is_degraded: false, detail: reason }
    }
}

/// A problem that does not make the gateway unready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What has the problem.
    pub about: String,
    /// The problem, and since when.
    pub detail: String,
}
