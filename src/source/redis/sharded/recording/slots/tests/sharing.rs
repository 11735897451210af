//! Slots share one memory.

use tokio::time::Instant;

use super::{MARK, at, follow, receive, slots, waiting};

#[test]
fn what_is_too_much_goes_of_the_channel_that_holds_the_most_whichever_slot_it_is_of() {
    let (mut slots, now) = (slots(), Instant::now());
    let [busy, quiet] = ["foo", "bar"].map(|name| follow(&mut slots, name));
    for names in [&busy, &quiet] {
        names.iter().for_each(|name| slots.confirm(name, &at(1), |_| true, now));
        receive(&mut slots, &at(1), &names[1], format!("{MARK} other"));
    }
    let text = "x".repeat(100_000);
    (0..9).for_each(|_| receive(&mut slots, &at(1), &busy[0], text.clone()));
    receive(&mut slots, &at(1), &quiet[0], text.clone());
    assert_eq!((waiting(&slots, &busy[0]), waiting(&slots, &quiet[0])), ((9, true), (1, true)));
    // It is the last to come, and a mebibyte is full.
    receive(&mut slots, &at(1), &quiet[0], text);
    assert_eq!((waiting(&slots, &busy[0]), waiting(&slots, &quiet[0])), ((0, true), (2, true)));
    assert_eq!(slots.parts.metrics.figures().recorded_dropped, 9);
}
