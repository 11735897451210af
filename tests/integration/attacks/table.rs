//! What was attacked, with which bound, and what was measured: a table for people.

use std::io::Write as _;

use super::crowd::Toll;

/// Checks an attack, and writes a line for the table.
///
/// `bounds` say what is bounded, by how much, and what was measured, in their order.
pub(super) fn judge(attack: &str, toll: &Toll, bounds: &[(&str, f64, f64)]) {
    let said = |pick: fn(&(&str, f64, f64)) -> f64| {
        let parts = bounds.iter().map(|bound| format!("{} {:.4}", bound.0, pick(bound)));
        parts.collect::<Vec<_>>().join(", ")
    };
    let (bound, measured) = (said(|bound| bound.1), said(|bound| bound.2));
    let line = format!(
        "{attack}\t{bound}\t{measured}; +{} KiB, kernel +{} KiB, p99 {} ms, busy {} of {} ms\t{}\n",
        toll.resident >> 10,
        toll.kernel >> 10,
        toll.p99.as_millis(),
        toll.busy.as_millis(),
        toll.took.as_millis(),
        toll.harmed,
    );
    // `tests/run --full` asks for it.
    if let Some(file) = std::env::var_os("ATTACK_TABLE") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(toll.harmed, 0, "good streams were harmed: {line}");
    for (what, bound, measured) in bounds {
        assert!(measured <= bound, "{what}: {measured}, more than {bound}: {line}");
    }
}

/// Mebibytes.
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
