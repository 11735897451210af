//! What a simulation does, drawn from its seed.

use std::time::Duration;

use fastrand::Rng;

/// What the simulation does in one seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) steps: usize,
    pub(super) channels: usize,
    // Of three clients, this many subscribe to the pattern, too.
    pub(super) patterns: u8,
    pub(super) clients: usize,
    pub(super) shards: usize,
    pub(super) history: usize,
    pub(super) history_memory: usize,
    pub(super) max_channels: usize,
    pub(super) linger: Duration,
    pub(super) max_queue_bytes: usize,
    pub(super) breaks: bool,
    pub(super) delays: bool,
    pub(super) changes_channels: bool,
    pub(super) follow: FollowPlan,
}

/// Whether the hub follows patterns by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FollowPlan {
    Never,
    /// All channels, from the beginning to the end.
    Always,
    /// Other patterns after each reload.
    Changing,
}

impl Plan {
    /// Memory for everything that is published.
    const ALL: usize = 1 << 30;

    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self {
            steps: 160,
            channels: rng.usize(1..=5),
            patterns: rng.u8(..2),
            clients: rng.usize(1..=5),
            shards: rng.usize(1..=2),
            history: *rng.choice(&[1, 3, 50]).expect("a choice"),
            history_memory: *rng.choice(&[700, 1 << 20]).expect("a choice"),
            max_channels: *rng.choice(&[2, 4, 100]).expect("a choice"),
            linger: Duration::from_millis(*rng.choice(&[0, 20, 100_000]).expect("a choice")),
            max_queue_bytes: *rng.choice(&[1, 60, 1 << 20]).expect("a choice"),
            breaks: rng.u8(..3) == 0,
            delays: rng.bool(),
            changes_channels: rng.bool(),
            follow: match rng.u8(..6) {
                0 => FollowPlan::Always,
                1 => FollowPlan::Changing,
                _ => FollowPlan::Never,
            },
        }
    }

    /// A plan in which the hub follows patterns by itself.
    pub(super) fn followed(rng: &mut Rng) -> Self {
        let follow = *rng.choice(&[FollowPlan::Always, FollowPlan::Changing]).expect("a choice");
        let base = if rng.bool() { Self::draw(rng) } else { Self::of_copies(rng) };
        Self { follow, ..base }
    }

    /// Whether what is published to nobody is there for a client that joins later.
    pub(super) fn keeps_everything(&self) -> bool {
        self.follow == FollowPlan::Always && self.history_memory == Self::ALL && !self.breaks
    }

    /// A plan in which everything is followed and nothing is ever dropped: a channel that a client joins later
    /// has what was published to nobody.
    pub(super) fn calm_and_followed(rng: &mut Rng) -> Self {
        Self { follow: FollowPlan::Always, changes_channels: true, ..Self::calm(rng) }
    }

    /// A plan in which most messages come twice, and other things happen between the two copies.
    pub(super) fn of_copies(rng: &mut Rng) -> Self {
        Self {
            channels: rng.usize(1..=2),
            patterns: 2,
            max_channels: 100,
            delays: true,
            breaks: false,
            ..Self::draw(rng)
        }
    }

    /// A plan in which nothing is ever dropped.
    pub(super) fn calm(rng: &mut Rng) -> Self {
        Self {
            history: 10_000,
            history_memory: Self::ALL,
            max_channels: 100,
            linger: Duration::from_secs(100_000),
            max_queue_bytes: *rng.choice(&[60, 1 << 20]).expect("a choice"),
            breaks: false,
            changes_channels: false,
            ..Self::draw(rng)
        }
    }
}

/// Draws the patterns that the hub follows after a reload.
pub(super) fn followed(rng: &mut Rng) -> Vec<&'static str> {
    let mut patterns = vec!["c*", "c[0-1]", "c?"];
    rng.shuffle(&mut patterns);
    patterns.truncate(rng.usize(..=2));
    patterns
}

/// Draws the names that a client follows.
pub(super) fn names(plan: &Plan, rng: &mut Rng) -> Vec<String> {
    let mut names: Vec<_> = (0..plan.channels).map(|n| format!("c{n}")).collect();
    rng.shuffle(&mut names);
    names.truncate(rng.usize(1..=3).min(plan.max_channels));
    if rng.u8(..3) < plan.patterns && names.len() < plan.max_channels {
        names.push("c*".into());
    }
    names
}
