//! Each rule is needed: without it there is a counterexample. A process of its own for each would be needless, but the
//! rule that is away is away for all of a process: so they run one after the other.

mod check;

use ssegate_record::RecordRule::{self, *};
use ssegate_record_model::Bounds;

use check::{CALM, fails};

#[test]
fn each_rule_is_needed() {
    const LOSS: &str = "nothing is missing in the log without a gap";
    const ORDER: &str = "the log has no message twice, and all in order";
    const NAMED: &str = "what a living gateway has named is not lost";
    const NAMED_AT_NEW: &str = "what a living gateway has named at the new node is not lost";
    let one = Bounds { gateways: 1, ..CALM };
    let rules: [(RecordRule, Bounds, &str); 8] = [
        (ReachesSince, CALM, LOSS),
        (NotBehindTop, CALM, ORDER),
        (SealReachesSince, Bounds { ends: 1, ..CALM }, LOSS),
        (KeptUntilSeen, Bounds { unseen: 1, ..one }, NAMED),
        (KeptUntilSeen, Bounds { unseen: 1, is_moving: true, ..one }, NAMED_AT_NEW),
        (NoNameOverHole, Bounds { breaks: 1, ..one }, LOSS),
        (HoleEndsSince, Bounds { breaks: 1, ..one }, LOSS),
        (OtherTimeline, Bounds { restores: 1, asks: 2, ..one }, LOSS),
    ];
    for (rule, bounds, property) in rules {
        fails(rule, bounds, property);
    }
}
