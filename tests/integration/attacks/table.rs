//! What was attacked, with which bound, and what was measured: a table for people.

use std::io::Write as _;

use super::crowd::Toll;

/// What holds under every attack, whatever else is bounded: an attacker who is cut off, or waits, has
/// no more than this in the kernel, and no more of the processors. The fifty cost a twentieth of one.
const WAITING_MIB: f64 = 16.0;
const CPU_SECONDS: f64 = 0.5;
const CPU_SHARE: f64 = 0.5;

/// Checks an attack, and writes a line for the table.
///
/// `bounds` say what is bounded, by how much, and what was measured, in their order. A bound on
/// `waiting MiB` or on `CPU s` takes the place of the one that is common to all.
pub(crate) fn judge(attack: &str, toll: &Toll, bounds: &[(&str, f64, f64)]) {
    let cpu = CPU_SECONDS + CPU_SHARE * toll.took.as_secs_f64();
    let common = [
        ("waiting MiB", WAITING_MIB, mib(toll.waiting as u64)),
        ("CPU s", cpu, toll.busy.as_secs_f64()),
    ];
    let common = common.iter().filter(|(what, ..)| bounds.iter().all(|bound| bound.0 != *what));
    let bounds: Vec<_> = bounds.iter().chain(common).copied().collect();
    let more = format!(
        "; +{} KiB, all sockets +{} KiB, p99 {} ms, took {} ms",
        toll.resident >> 10,
        toll.kernel >> 10,
        toll.p99.as_millis(),
        toll.took.as_millis(),
    );
    enter(attack, &bounds, &more, toll.harmed);
}

/// The same for what has good streams of another kind: `harmed` of them lost something.
pub(crate) fn judge_without_crowd(attack: &str, bounds: &[(&str, f64, f64)], harmed: usize) {
    enter(attack, bounds, "", harmed);
}

fn enter(attack: &str, bounds: &[(&str, f64, f64)], more: &str, harmed: usize) {
    let said = |pick: fn(&(&str, f64, f64)) -> f64| {
        let parts = bounds.iter().map(|bound| format!("{} {}", bound.0, short(pick(bound))));
        parts.collect::<Vec<_>>().join(", ")
    };
    let (bound, measured) = (said(|bound| bound.1), said(|bound| bound.2));
    let line = format!("{attack}\t{bound}\t{measured}{more}\t{harmed}\n");
    // `tests/run --full` asks for it.
    if let Some(file) = std::env::var_os("ATTACK_TABLE") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(harmed, 0, "good streams were harmed: {line}");
    for (what, bound, measured) in bounds {
        assert!(measured <= bound, "{what}: {measured}, more than {bound}: {line}");
    }
}

/// A number as a person would write it.
fn short(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Mebibytes.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
