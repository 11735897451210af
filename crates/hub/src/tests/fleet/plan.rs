//! What a simulation does, drawn from its seed.

use std::time::Duration;

use fastrand::Rng;

/// What the simulation does in one seed. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) channels: usize,
    // Each channel that the pattern matches.
    pub(super) patterned: Vec<bool>,
    pub(super) gateways: usize,
    pub(super) clients: usize,
    // How long messages are published, and how far apart on average.
    pub(super) traffic: u64,
    pub(super) between: u64,
    pub(super) bursts: bool,
    pub(super) constant_payloads: bool,
    // How long a message may be under way to a gateway.
    pub(super) delay: u64,
    pub(super) history: usize,
    pub(super) history_bytes: usize,
    pub(super) history_age: Duration,
    pub(super) history_memory: usize,
    pub(super) linger: Duration,
    // How far apart connections break, and gateways are replaced; 0: never.
    pub(super) breaks: u64,
    pub(super) replacements: u64,
    // How long it takes to restore all subscriptions of a new connection.
    pub(super) restoring: u64,
    // How many of a hundred publications of the gateways are lost.
    pub(super) lost: u8,
    // How long a client stays on a gateway.
    pub(super) stay: u64,
    pub(super) too_large: bool,
    pub(super) is_calm: bool,
    // Some of the gateways follow patterns by themselves, with room for few channels.
    pub(super) follows: bool,
    pub(super) max_channels: usize,
    // Gateways that are replaced hand their histories over: at a takeover, or over a restart.
    pub(super) hands_over: bool,
    pub(super) handover_bytes: usize,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let channels = pick(rng, &[1, 2, 3, 4, 6]);
        let between = pick(rng, &[300, 2000, 30, 8]);
        Self {
            channels,
            patterned: (0..channels).map(|_| rng.u8(..5) < 3).collect(),
            gateways: pick(rng, &[2, 3]),
            clients: pick(rng, &[2, 4, 6]),
            traffic: if between >= 300 {
                pick(rng, &[6000, 15_000])
            } else {
                pick(rng, &[800, 2500])
            },
            between,
            bursts: rng.u8(..5) < 2,
            constant_payloads: rng.u8(..5) < 3,
            delay: pick(rng, &[2, 20, 200, 3000]),
            history: pick(rng, &[3, 8, 50]),
            history_bytes: pick(rng, &[150, 1 << 20]),
            history_age: Duration::from_millis(pick(rng, &[500, 3000, 1_000_000_000])),
            history_memory: pick(rng, &[3000, 1 << 30, 1 << 30]),
            linger: Duration::from_millis(pick(rng, &[100, 2000, 1_000_000_000])),
            breaks: pick(rng, &[0, 0, 1500, 6000]),
            replacements: pick(rng, &[0, 0, 3000]),
            restoring: pick(rng, &[3, 3, 300]),
            lost: pick(rng, &[0, 0, 20]),
            stay: pick(rng, &[150, 800, 3000]),
            too_large: rng.u8(..4) == 0,
            is_calm: false,
            follows: false,
            max_channels: 100_000,
            hands_over: false,
            handover_bytes: usize::MAX,
        }
    }

    /// Gateways are replaced often, and hand their histories over.
    pub(super) fn handing_over(rng: &mut Rng) -> Self {
        Self {
            replacements: pick(rng, &[700, 1500]),
            traffic: pick(rng, &[4000, 8000]),
            history: pick(rng, &[3, 8, 50, 50]),
            follows: rng.bool(),
            hands_over: true,
            handover_bytes: pick(rng, &[2_000, usize::MAX, usize::MAX]),
            max_channels: pick(rng, &[3, 100_000, 100_000]),
            ..Self::draw(rng)
        }
    }

    /// Gateways follow patterns, each others; channels are opened on demand, and evicted.
    pub(super) fn following(rng: &mut Rng) -> Self {
        let max_channels = pick(rng, &[3, 4, 100_000]);
        Self { follows: true, max_channels, ..Self::draw(rng) }
    }

    /// Connections break often, and clients move fast.
    pub(super) fn breaking(rng: &mut Rng) -> Self {
        Self {
            between: 30,
            traffic: 2500,
            delay: pick(rng, &[20, 200]),
            breaks: 400,
            restoring: 300,
            lost: 0,
            stay: pick(rng, &[60, 150]),
            history: pick(rng, &[8, 50]),
            ..Self::draw(rng)
        }
    }

    /// No breaks, kills or lost publications, and ample history.
    pub(super) fn calm(rng: &mut Rng) -> Self {
        Self {
            history: 5000,
            history_bytes: 1 << 30,
            history_age: Duration::from_secs(1_000_000),
            history_memory: 1 << 30,
            linger: Duration::from_secs(1_000_000),
            breaks: 0,
            lost: 0,
            is_calm: true,
            ..Self::draw(rng)
        }
    }
}

pub(super) fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    *rng.choice(of).expect("a choice")
}
