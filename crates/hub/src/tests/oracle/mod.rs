//! Clients that come and go, against an oracle that knows every message.
//!
//! A simulated Redis numbers all messages and sends one gateway those that it is subscribed to, in order
//! and with delays; the hub and its shards are the real ones. Clients follow channels and patterns, leave,
//! and come back with the last id that they have read; meanwhile channels are closed, evicted and
//! opened again, histories are trimmed, and the connection breaks. What comes after a client's first
//! `ready` must reach it once and in order, or be covered by a gap that names the channel.
//!
//! `SSEGATE_SEEDS=100000` runs more of it, `SSEGATE_SEED=7` one seed with a trace.

mod client;
mod plan;
mod redis;
mod world;

use fastrand::Rng;

use self::plan::Plan;
use self::world::World;
use super::run;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs the seeds; a seed may have at most `gaps` gaps.
fn run_seeds(plan: fn(&mut Rng) -> Plan, gaps: Option<usize>) {
    run_many_seeds(plan, gaps, number_of("SSEGATE_SEEDS").unwrap_or(600));
}

fn run_many_seeds(plan: fn(&mut Rng) -> Plan, gaps: Option<usize>, count: u64) {
    let one = number_of("SSEGATE_SEED");
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        run(async move {
            let mut rng = Rng::with_seed(seed);
            let plan = plan(&mut rng);
            let mut world = World::new(plan, rng, one.is_some());
            let outcome = world.live().await;
            let sent: usize = world.clients.iter().map(|client| client.gaps).sum();
            let trace = world.trace.unwrap_or_default();
            if let Err(error) = outcome {
                panic!("{trace}seed {seed}: {error}; {:?}", world.plan);
            }
            assert!(gaps.is_none_or(|most| sent <= most), "{trace}seed {seed}: {sent} gaps");
        });
    }
}

#[test]
fn a_client_that_comes_back_misses_nothing_without_a_gap() {
    run_seeds(Plan::draw, None);
}

#[test]
fn a_client_that_subscribes_between_two_copies_of_a_message_gets_it() {
    run_seeds(Plan::of_copies, None);
}

#[test]
fn a_client_misses_nothing_without_a_gap_while_patterns_are_followed_and_reloaded() {
    run_seeds(Plan::followed, None);
}

#[test]
fn a_channel_that_is_joined_later_has_what_was_published_to_nobody() {
    run_seeds(Plan::calm_and_followed, Some(0));
}

#[test]
fn no_gap_is_sent_where_nothing_was_dropped() {
    run_seeds(Plan::calm, Some(0));
}

#[test]
#[ignore = "long: run by tests/run --full"]
fn long_clients_that_come_back_miss_nothing_without_a_gap() {
    for (plan, gaps) in [
        (Plan::draw as fn(&mut Rng) -> Plan, None),
        (Plan::of_copies, None),
        (Plan::calm, Some(0)),
        (Plan::followed, None),
        (Plan::calm_and_followed, Some(0)),
    ] {
        run_many_seeds(plan, gaps, 10_000);
    }
}
