//! Numbers with their nouns, for messages.

/// Formats a number with its noun: `1 route`, `2 routes`.
pub(super) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}
