//! A YAML syntax error in words that a person can act on, and search for.

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Location, MessageFormatter, UserMessageFormatter};

use crate::error::{KeyLocation, Mistake};
use crate::wording::quoted;

/// Parts of the parser's messages that mean a wrong indentation.
const INDENTATION: [&str; 5] = [
    "did not find expected key",
    "did not find expected '-' indicator",
    "did not find expected <document start>",
    "invalid indentation",
    "wrongly indented",
];

/// How deeply lists and mappings may be nested. A level takes many kilobytes of the stack, which is small on a
/// thread that reloads a configuration: with the 64 levels of the parser it overflowed in a build
/// without optimisation.
pub(crate) const MAX_DEPTH: usize = 16;

/// Line and column, both from 1.
pub(crate) fn position(location: Location) -> (u32, u32) {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    (narrow(location.line()), narrow(location.column()))
}

/// The parser's error about `text`, or a clearer one for frequent mistakes.
pub(crate) fn mistake(error: &serde_saphyr::Error, text: &str) -> Mistake {
    let (line, column) = error.location().map_or((0, 0), position);
    let location = |line, column| KeyLocation { path: String::new(), line, column };
    let known = match cause(error) {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            Some(format!("duplicate key {}", quoted(key)))
        }
        serde_saphyr::Error::MultipleDocuments { .. } => Some(
            "a second YAML document begins here; the configuration must be a single one".to_owned(),
        ),
        serde_saphyr::Error::Budget { breach, .. } => Some(too_much(breach)),
        serde_saphyr::Error::AliasReplayLimitExceeded { .. }
        | serde_saphyr::Error::AliasReplayCounterOverflow { .. }
        | serde_saphyr::Error::AliasReplayStackDepthExceeded { .. }
        | serde_saphyr::Error::AliasExpansionLimitExceeded { .. } => {
            Some(TOO_MANY_ALIASES.to_owned())
        }
        _ => None,
    };
    if let Some(message) = known {
        return Mistake { location: location(line, column), message };
    }
    let message = UserMessageFormatter.format_message(error);
    let is_about_tab = message.contains("tab");
    if let Some((line, column)) = indenting_tab(text, line).filter(|_| is_about_tab) {
        let message = "not valid YAML: a tab in the indentation; use spaces, YAML does not allow \
                       tabs there";
        return Mistake { location: location(line, column), message: message.to_owned() };
    }
    let hint = text
        .lines()
        .nth(line.saturating_sub(1) as usize)
        .map_or("", |text| hint(&message, text, column.saturating_sub(1) as usize));
    Mistake {
        location: location(line, column),
        message: format!("not valid YAML: {message}{hint}"),
    }
}

/// The error itself, without the alias that led to it.
fn cause(mut error: &serde_saphyr::Error) -> &serde_saphyr::Error {
    while let serde_saphyr::Error::AliasError { error: inner, .. }
    | serde_saphyr::Error::WithSnippet { error: inner, .. } = error
    {
        error = inner;
    }
    error
}

const TOO_MANY_ALIASES: &str = "the aliases repeat too much; write the values out";

/// Which bound of the parser was reached. Its own message is the debug form of this.
fn too_much(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => {
            format!("lists and mappings are nested too deeply: at most {MAX_DEPTH} levels")
        }
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::RecordedAnchorEvents { .. }
        | BudgetBreach::RecordedAnchorBytes { .. }
        | BudgetBreach::MergeKeys { .. } => TOO_MANY_ALIASES.to_owned(),
        // Aliases count as often as they are used.
        BudgetBreach::Nodes { nodes: most } | BudgetBreach::Events { events: most } => {
            format!(
                "too large: it has more than {} values, with those that aliases repeat",
                most - 1
            )
        }
        _ => "too large for a configuration".to_owned(),
    }
}

/// The position of the first tab that indents a line, from `line` on. The parser may report the line before
/// it.
fn indenting_tab(text: &str, line: u32) -> Option<(u32, u32)> {
    let from = line.saturating_sub(1);
    (1..).zip(text.lines()).skip(from as usize).take(2).find_map(|(number, line)| {
        let indentation = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        let tab = indentation.find('\t')?;
        Some((number, u32::try_from(tab + 1).unwrap_or(u32::MAX)))
    })
}

/// What to look at, given the parser's message and the line and index at which it stopped.
fn hint(message: &str, line: &str, index: usize) -> &'static str {
    const INDENT: &str = "; check the indentation of this line and of the one before: the keys of one \
                          mapping start in the same column, and so do the dashes of one list";
    if line.contains("${") {
        // `{ url: ${REDIS_URL} }`: in YAML, the brace after the dollar opens a mapping.
        return "; inside { } and [ ], put quotes around \"${…}\"";
    }
    if INDENTATION.iter().any(|part| message.contains(part)) {
        return INDENT;
    }
    if message.starts_with("mapping values are not allowed") {
        let before: String = line.chars().take(index).collect();
        return match before.contains(": ") {
            true => "; put quotes around a value that contains \": \"",
            false => INDENT,
        };
    }
    ""
}

#[cfg(test)]
mod tests {
    use crate::mistakes::Mistakes;
    use crate::read::read;

    fn reported(text: &str) -> String {
        read(text, "f", &Mistakes::default()).expect_err("not valid").to_string()
    }

    #[test]
    fn a_syntax_error_has_a_location_and_is_the_only_mistake() {
        for (text, expected) in [
            (
                "a: 1\n---\nb: 1",
                "a second YAML document begins here; the configuration must be a single one (f:3:1)",
            ),
            ("a: !x 1", "not valid YAML: unsupported tag `!x` (f:1:7)"),
            (
                "a: b: c",
                "not valid YAML: mapping values are not allowed in this context; put quotes around a \
                 value that contains \": \" (f:1:5)",
            ),
            (
                "a: {b: ${C}}",
                "not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'; \
                 inside { } and [ ], put quotes around \"${…}\" (f:1:9)",
            ),
        ] {
            assert_eq!(reported(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bound_of_the_parser_is_named_in_words() {
        let deep = format!("a: {}{}", "[".repeat(70), "]".repeat(70));
        let many = format!("a: [{}]", "x,".repeat(300_000));
        let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            aliases += &format!("a{level}: &a{level} [{list}]\n");
        }
        let merges = format!("a: &a {{b: 1}}\nc:\n{}", "  - {<<: *a}\n".repeat(20_000));
        for (text, expected) in [
            (deep, "nested too deeply: at most 16 levels (f:1:"),
            (many, "too large: it has more than 250000 values"),
            (aliases, "values, with those that aliases repeat"),
            (merges, "the aliases repeat too much; write the values out (f:"),
        ] {
            let report = reported(&text);
            assert!(report.contains(expected), "{report}");
            assert!(!report.contains(['{', '=']), "{report}");
        }
    }

    #[test]
    fn a_tab_in_the_indentation_is_named_where_it_is() {
        for (text, place) in [
            ("a:\n\tb: 1", "2:1"),
            ("a:\n  b: 1\n\tc: 2", "3:1"),
            ("a:\n  b: 1\n  \tc: 2", "3:3"),
            ("a:\n  b:\n\t- c", "3:1"),
            ("a: x\n\tb: 1", "2:1"),
            ("a: |\n\tx", "2:1"),
            ("ä: { b: 1\n\tc: 2 }", "2:1"),
        ] {
            assert_eq!(
                reported(text),
                format!(
                    "not valid YAML: a tab in the indentation; use spaces, YAML does not allow tabs \
                     there (f:{place})"
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_indentation_has_a_hint() {
        for (text, place) in [
            ("a:\n  b: 1\n c: 2", "3:2"),
            ("a: 1\n  b: 2", "2:4"),
            ("a:\n    b: 1\n  c: 2", "3:3"),
            ("- a: 1\n - b: 2", "2:2"),
            ("a:\n- b: 1\n   c: 2", "3:5"),
            (" a: 1\nb: 2", "2:1"),
            ("a:\n  - b: 1\n    c: 2\n   d: 1", "4:4"),
            ("a: \"x\ny\"", "2:1"),
        ] {
            let report = reported(text);
            assert!(report.contains("; check the indentation of this line"), "{text}: {report}");
            assert!(report.ends_with(&format!("(f:{place})")), "{text}: {report}");
        }
    }
}
