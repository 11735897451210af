//! What variables put into a value, and messages about such a value that do not repeat it.
//!
//! Whether a variable holds a secret is not known: `shards: ${REDIS_PASSWORD}` is a mistake that people make.
//! So the text of a message decides. Words that it shares with a substituted value become the name of the
//! variable, and a clause that only repeats the value is removed. This works on the text of a message and not
//! on the code that wrote it, so that a message that is added later leaks nothing either.

use std::collections::BTreeSet;

/// How many characters a message and a value must share. A shorter match is a coincidence.
const MIN_SHARED: usize = 4;

/// What the environment put into one value.
#[derive(Debug, Default)]
pub(crate) struct Substituted {
    /// The variables.
    names: BTreeSet<String>,
    /// Their values, in lower case: some messages have a host in lower case.
    values: Vec<String>,
    /// Whether the value is that of one variable, and nothing else.
    pub(crate) is_whole: bool,
}

impl Substituted {
    /// Adds the value of a variable.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.names.insert(name.to_owned());
            self.values.push(value.to_lowercase());
        }
    }

    /// Whether nothing came from the environment.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether `text` is the value of one variable, and nothing else.
    pub(crate) fn is_only(&self, text: &str) -> bool {
        matches!(self.values.as_slice(), [value] if *value == text.to_lowercase())
    }

    /// The message with the names of the variables in place of their values.
    pub(crate) fn redact(&self, message: &str) -> String {
        let name = self.name();
        let mut kept: Vec<String> = Vec::new();
        for (index, clause) in clauses(message).into_iter().enumerate() {
            let redacted = self.redact_clause(clause, &name);
            let is_about_value = redacted.contains(&name) || clause.starts_with("this is ");
            match (index, is_about_value) {
                (0, _) => kept.push(redacted),
                // "write …", "this is …": of the first of them only the name is of use.
                (_, true) if kept.iter().any(|kept| kept.contains(&name)) => {}
                (_, true) => kept.push(format!("this is {name}")),
                (_, false) => kept.push(redacted),
            }
        }
        if !kept.iter().any(|kept| kept.contains(&name)) {
            kept.push(format!("this is {name}"));
        }
        kept.join("; ")
    }

    /// `the value of ${PORT}`.
    fn name(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|name| format!("${{{name}}}")).collect();
        let what = if self.is_whole { "the value of" } else { "a value with" };
        format!("{what} {}", names.join(" and "))
    }

    /// Replaces each word, and each text in quotes, that shares something with a value.
    fn redact_clause(&self, clause: &str, name: &str) -> String {
        let mut words: Vec<String> = Vec::new();
        for word in words_of(clause) {
            let bare = word.trim_end_matches([',', ':', '.', ')', '?']);
            if !self.shares(bare) {
                words.push(word.to_owned());
                continue;
            }
            // Several words of one value are one name.
            words.pop_if(|last| last == name);
            words.push(format!("{name}{}", &word[bare.len()..]));
        }
        words.join(" ")
    }

    fn shares(&self, text: &str) -> bool {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let is_shared = |part: &[char]| {
            let part: String = part.iter().collect();
            self.values.iter().any(|value| value.contains(&part))
        };
        let bare: String = text.iter().filter(|c| **c != '"').collect();
        self.values.contains(&bare) || text.windows(MIN_SHARED).any(is_shared)
    }
}

/// The parts of a message between `; `, outside of quotes.
fn clauses(message: &str) -> Vec<&str> {
    split_outside_quotes(message, |rest| rest.starts_with("; ").then_some(2))
}

/// The words of a clause. A text in quotes is one word, with what stands right before and behind it.
fn words_of(clause: &str) -> Vec<&str> {
    split_outside_quotes(clause, |rest| rest.starts_with(' ').then_some(1))
}

/// Splits where `separator` returns the length of one.
fn split_outside_quotes(text: &str, separator: impl Fn(&str) -> Option<usize>) -> Vec<&str> {
    let (mut parts, mut start, mut next) = (Vec::new(), 0, 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if at < next {
            continue;
        }
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        if !is_quoted && let Some(length) = separator(&text[at..]) {
            parts.push(&text[start..at]);
            (start, next) = (at + length, at + length);
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::Substituted;

    fn redacted(name: &str, value: &str, is_whole: bool, message: &str) -> String {
        let mut substituted = Substituted { is_whole, ..Substituted::default() };
        substituted.add(name, value);
        substituted.redact(message)
    }

    #[test]
    fn a_message_names_the_variable_instead_of_its_value() {
        for (value, message, expected) in [
            (
                "hunter2",
                "expected a whole number from 1 to 9; this is \"hunter2\"",
                "expected a whole number from 1 to 9; this is the value of ${V}",
            ),
            (
                "70000",
                "must be at most 65535; this is 70000",
                "must be at most 65535; this is the value of ${V}",
            ),
            ("5", "must be at least 8; this is 5", "must be at least 8; this is the value of ${V}"),
            (
                "hunter2",
                "\"hunter2\" is not a duration; use forms like 30s or 5m",
                "the value of ${V} is not a duration; use forms like 30s or 5m",
            ),
            (
                "HTTP://Hunter2/a; b",
                "\"HTTP://Hunter2/a; b\" has a path; browsers send http://hunter2",
                "the value of ${V} has a path",
            ),
            (
                "/run/hunter 2.pem",
                "cannot read /run/hunter 2.pem: Permission denied",
                "cannot read the value of ${V}: Permission denied",
            ),
            ("hunter2", "no such file: hunter2", "no such file: the value of ${V}"),
            (
                "hunter2",
                "has 7 bytes, at least 32 are required; generate one",
                "has 7 bytes, at least 32 are required; generate one; this is the value of ${V}",
            ),
            ("hun\"ter2", "this is \"hun\\\"ter2\"", "this is the value of ${V}"),
            (
                "1g",
                "must be at most 1MiB; this is 1GiB",
                "must be at most 1MiB; this is the value of ${V}",
            ),
        ] {
            assert_eq!(redacted("V", value, true, message), expected);
        }
        assert_eq!(
            redacted("PW", "hunter2", false, "\"99999\" is not a valid port; the highest is 65535"),
            "\"99999\" is not a valid port; the highest is 65535; this is a value with ${PW}"
        );
    }
}
