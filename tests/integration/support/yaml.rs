//! Pieces of gateway.yaml.

/// Puts `by` spaces before every line of `text`.
pub(crate) fn indent(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.lines().map(|line| format!("{margin}{line}\n")).collect()
}
