//! A fleet of gateways on one server, against an oracle that knows every message.
//!
//! The hubs and their shards are the real ones; the server is simulated, with delays, breaks and lost
//! publications. Clients move between the gateways with the last id that they have read, while gateways are
//! replaced, histories trimmed and evicted, and channels left. What comes after a client's first `ready`
//! must reach it once and in order, or be covered by a gap that names the channel. Each rule of the fleet
//! ([`FleetRule`]) is taken away in turn, and must be missed.
//!
//! `SSEGATE_SEEDS=100000` runs more of it, `SSEGATE_SEED=7` one seed with a trace.

mod client;
mod gateway;
mod ids;
mod nodes;
mod plan;
mod server;
mod world;

use fastrand::Rng;

use self::client::{Count, Fault};
use self::plan::Plan;
use self::world::FleetWorld;
use super::run;
use crate::fleet::rules::{FleetRule, WITHOUT};

/// What `tests/run` runs of each plan; with `--full` it is ten times as many.
const SEEDS: u64 = 300;
/// Seeds within which the simulation fails once any one rule is switched off.
const SEEDS_WITHOUT: u64 = 500;

/// What came of many seeds.
#[derive(Debug, Default)]
struct Outcome {
    count: Count,
    faults: Vec<(u64, Fault)>,
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run_seeds(
    plan: fn(&mut Rng) -> Plan,
    seeds: std::ops::Range<u64>,
    without: &[FleetRule],
) -> Outcome {
    let (one, mut outcome) = (number_of("SSEGATE_SEED"), Outcome::default());
    for seed in one.map_or(seeds, |seed| seed..seed + 1) {
        WITHOUT.set(without.to_vec());
        let (sender, receiver) = std::sync::mpsc::channel();
        run(async move {
            // The hub draws its runs and marks from here.
            fastrand::seed(seed);
            let mut rng = Rng::with_seed(seed);
            let plan = plan(&mut rng);
            let text = format!("{plan:?}");
            let mut world = FleetWorld::new(plan, rng, one.is_some());
            let result = world.live().await;
            if let Some(trace) = world.trace.take() {
                println!("{trace}seed {seed}: {text}: {result:?}");
            }
            sender.send(result).expect("it is received below");
        });
        match receiver.recv().expect("it was sent") {
            Ok(count) => {
                outcome.count.resumes += count.resumes;
                outcome.count.gaps += count.gaps;
                outcome.count.needless += count.needless;
                outcome.count.taken_over += count.taken_over;
                outcome.count.restored += count.restored;
            }
            Err(fault) => outcome.faults.push((seed, fault)),
        }
    }
    WITHOUT.set(Vec::new());
    outcome
}

fn run_all(plan: fn(&mut Rng) -> Plan, seeds: u64) -> Outcome {
    run_seeds(plan, 0..number_of("SSEGATE_SEEDS").unwrap_or(seeds), &[])
}

#[test]
fn a_client_that_moves_between_gateways_misses_nothing_without_a_gap() {
    let Outcome { count, faults } = run_all(Plan::draw, SEEDS);
    println!("{count:?}");
    assert_eq!(faults, []);
}

#[test]
fn a_client_misses_nothing_while_some_gateways_follow_patterns() {
    let Outcome { count, faults } = run_all(Plan::following, SEEDS);
    println!("{count:?}");
    assert_eq!(faults, []);
}

#[test]
fn a_client_misses_nothing_while_gateways_hand_over_their_histories() {
    let Outcome { count, faults } = run_all(Plan::handing_over, SEEDS);
    println!("{count:?}");
    assert_eq!(faults, []);
    assert!(count.taken_over > 60 && count.restored > 60, "{count:?}");
}

#[test]
fn in_calm_few_gaps_are_needless() {
    let Outcome { count, faults } = run_all(Plan::calm, SEEDS / 2);
    println!("{count:?}");
    assert_eq!(faults, []);
    assert!(count.needless * 50 <= count.resumes, "more than 2 %: {count:?}");
}

/// The seed at which something goes wrong without these rules.
fn missed(plan: fn(&mut Rng) -> Plan, without: &[FleetRule], most: u64) -> Option<(u64, Fault)> {
    let mut seeds = (0..most).step_by(10);
    seeds.find_map(|start| run_seeds(plan, start..start + 10, without).faults.into_iter().next())
}

#[test]
fn rules_are_missed_when_they_are_taken_away() {
    for rule in [
        FleetRule::MarkAfterConfirmation,
        FleetRule::Fence,
        FleetRule::OrderInAnswer,
        FleetRule::NewestOfAllChannels,
    ] {
        let fault = missed(Plan::draw, &[rule], SEEDS_WITHOUT);
        assert!(fault.is_some(), "nothing goes wrong without {rule:?}");
    }
    for rule in [FleetRule::PastUpToSeam, FleetRule::GapAfterRestart] {
        let fault = missed(Plan::handing_over, &[rule], SEEDS_WITHOUT);
        assert!(fault.is_some(), "nothing goes wrong without {rule:?}");
    }
}

#[test]
#[ignore = "long: tests/run --full"]
fn long_each_rule_is_missed_when_it_is_taken_away() {
    const MOST: u64 = 20_000;
    for (plan, rules) in [
        (Plan::draw as fn(&mut Rng) -> Plan, &[FleetRule::MarkAfterConfirmation][..]),
        (Plan::draw, &[FleetRule::Fence]),
        (Plan::draw, &[FleetRule::OrderInAnswer]),
        (Plan::draw, &[FleetRule::NoHoleInAnswer]),
        (Plan::breaking, &[FleetRule::GapsBeforeNames]),
        (Plan::breaking, &[FleetRule::GapsBeforeAnswers]),
        (Plan::calm, &[FleetRule::GapFirst]),
        (Plan::draw, &[FleetRule::NewestOfAllChannels]),
        (Plan::handing_over, &[FleetRule::NothingBeforeSeam]),
        (Plan::handing_over, &[FleetRule::PastUpToSeam]),
        (Plan::handing_over, &[FleetRule::GapAfterRestart]),
    ] {
        let fault = missed(plan, rules, MOST);
        println!("without {rules:?}: {fault:?}");
        assert!(fault.is_some(), "nothing goes wrong without {rules:?}");
    }
}

/// Tags that collide cost gaps, and nothing else.
#[test]
fn colliding_tags_lose_nothing() {
    let outcome = run_seeds(Plan::draw, 0..SEEDS_WITHOUT / 5, &[FleetRule::WideTags]);
    assert_eq!(outcome.faults, []);
}

#[test]
#[ignore = "long: tests/run --full"]
fn long_a_hundred_thousand_seeds_lose_nothing() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    for (plan, seeds) in [
        (Plan::draw as fn(&mut Rng) -> Plan, 60_000_u64),
        (Plan::breaking, 20_000),
        (Plan::calm, 20_000),
        (Plan::following, 20_000),
        (Plan::handing_over, 20_000),
    ] {
        // The rules, and what is drawn, are those of a thread.
        let part = seeds.div_ceil(threads);
        let starts = (0..threads).map(|thread| thread * part);
        let running = starts.map(|start| {
            std::thread::spawn(move || run_seeds(plan, start..seeds.min(start + part), &[]))
        });
        for outcome in running.collect::<Vec<_>>() {
            let Outcome { count, faults } = outcome.join().expect("it does not panic");
            println!("{count:?}");
            assert_eq!(faults, []);
        }
    }
}
