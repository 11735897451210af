//! Runs the checker.
#![allow(dead_code, reason = "each test program needs a part of this")]

use ssegate_record::{RecordRule, without};
use ssegate_record_model::{Bounds, RecordModel};
use stateright::{Checker, HasDiscoveries, Model};

/// Nothing goes wrong.
pub const CALM: Bounds = Bounds {
    gateways: 2,
    messages: 2,
    marks: 2,
    asks: 1,
    ends: 0,
    breaks: 0,
    hurries: 0,
    unseen: 0,
    restores: 0,
    forgets: 0,
    overflows: 0,
    is_moving: false,
};

/// Checks that all properties hold.
pub fn holds(bounds: Bounds) {
    let checker = RecordModel { bounds }.checker().threads(2).spawn_bfs().join();
    println!("{bounds:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Checks that a property does not hold without a rule, and prints how.
pub fn fails(rule: RecordRule, bounds: Bounds, property: &'static str) {
    without(Some(rule));
    let model = RecordModel { bounds };
    let until = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().threads(2).finish_when(until).spawn_bfs().join();
    // The path is found by going it once more: without the rule, too.
    let path = checker.discovery(property);
    without(None);
    let path = path.unwrap_or_else(|| panic!("{rule:?} is not needed for: {property}"));
    println!("without {rule:?}: {:?}", path.into_actions());
}
