//! A YAML syntax error in words that a person can act on, and search for.

use serde_saphyr::{Location, MessageFormatter, UserMessageFormatter};

use crate::error::{KeyLocation, Mistake};
use crate::wording::quoted;

/// Line and column, both from 1.
pub(crate) fn position(location: Location) -> (u32, u32) {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    (narrow(location.line()), narrow(location.column()))
}

/// The parser's error about `text`, or a clearer one for frequent mistakes.
pub(crate) fn mistake(error: &serde_saphyr::Error, text: &str) -> Mistake {
    let (line, column) = error.location().map_or((0, 0), position);
    let location = |line, column| KeyLocation { path: String::new(), line, column };
    let known = match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            Some(format!("duplicate key {}", quoted(key)))
        }
        serde_saphyr::Error::MultipleDocuments { .. } => Some(
            "a second YAML document begins here; the configuration must be a single one".to_owned(),
        ),
        _ => None,
    };
    if let Some(message) = known {
        return Mistake { location: location(line, column), message };
    }
    let message = UserMessageFormatter.format_message(error);
    // `{ url: ${REDIS_URL} }`: in YAML, the brace after the dollar opens a mapping.
    let hint = match text.lines().nth(line.saturating_sub(1) as usize) {
        Some(line) if line.contains("${") => "; inside { } and [ ], put quotes around \"${…}\"",
        _ => "",
    };
    Mistake {
        location: location(line, column),
        message: format!("not valid YAML: {message}{hint}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::read::read;

    fn reported(text: &str) -> String {
        read(text, "f").expect_err("not valid").to_string()
    }

    #[test]
    fn a_syntax_error_has_a_location_and_is_the_only_mistake() {
        for (text, expected) in [
            (
                "a: 1\n---\nb: 1",
                "a second YAML document begins here; the configuration must be a single one (f:3:1)",
            ),
            ("a: !x 1", "not valid YAML: unsupported tag `!x` (f:1:7)"),
            ("a: 1\na: 2", "duplicate key \"a\" (f:2:1)"),
            ("a: b: c", "not valid YAML: mapping values are not allowed in this context (f:1:5)"),
            (
                "a: {b: ${C}}",
                "not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'; \
                 inside { } and [ ], put quotes around \"${…}\" (f:1:9)",
            ),
        ] {
            assert_eq!(reported(text), expected, "{text}");
        }
    }
}
