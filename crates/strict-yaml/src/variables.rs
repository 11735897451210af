//! Replaces `${VAR}`, `${VAR:-default}`, `${VAR:?hint}` and `$$` in the values of the file.
//!
//! The environment is an argument. The value of a variable is not expanded again, so that a dollar in a
//! password stays a dollar. Keys are not expanded.
//!
//! serde-saphyr has a feature `properties` for this (seen in 2.0.0 and 2.2.0), which is not used: its error
//! for an unset variable ends the reading, so that only the first would be reported, and a number in
//! quotes, as `{ count: "${COUNT}" }` needs them, would stay text.

use crate::error::join;
use crate::mistakes::Mistakes;
use crate::substituted::Substituted;
use crate::tree::{Node, NodeValue, Scalar};

/// Looks up a variable: the environment of the process, or what a test puts in its place.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns what stands for a variable that is not set in the value of a key, such as `routes[0].auth.jwt.keys`;
/// `None`: it has to be set. For keys whose value is read and not used.
pub type StandIn<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// Where the values of variables come from.
#[derive(Clone, Copy)]
pub(crate) struct Variables<'a> {
    pub(crate) env: Env<'a>,
    pub(crate) stand_in: StandIn<'a>,
}

/// Replaces every variable in the values below `node`. A value with a missing variable is marked invalid.
pub(crate) fn replace(node: &mut Node, variables: Variables<'_>, mistakes: &Mistakes) {
    replace_below(node, String::new(), variables, mistakes);
}

fn replace_below(node: &mut Node, path: String, variables: Variables<'_>, mistakes: &Mistakes) {
    match &mut node.value {
        NodeValue::Nothing | NodeValue::Invalid => {}
        NodeValue::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                replace_below(item, format!("{path}[{index}]"), variables, mistakes);
            }
        }
        NodeValue::Map(entries) => {
            for (key, value) in entries {
                replace_below(value, join(&path, &key.name), variables, mistakes);
            }
        }
        NodeValue::Scalar(scalar) => {
            let (problems, substituted) = replace_in(scalar, &path, variables);
            let location = node.location(&path);
            if problems.is_empty() {
                mistakes.keep_secret(&location, substituted);
                return;
            }
            problems.into_iter().for_each(|problem| mistakes.note(&location, problem));
            node.value = NodeValue::Invalid;
        }
    }
}

fn replace_in(
    scalar: &mut Scalar,
    path: &str,
    variables: Variables<'_>,
) -> (Vec<String>, Substituted) {
    if !scalar.text.contains('$') {
        return Default::default();
    }
    let mut expansion = Expansion {
        env: variables.env,
        stand_in: (variables.stand_in)(path),
        problems: Vec::new(),
        has_variable: false,
        substituted: Substituted::default(),
    };
    scalar.text = expansion.expand(&scalar.text, 0);
    // `{ count: "${COUNT}" }`: YAML requires the quotes, and the value may still be a number.
    scalar.is_plain |= expansion.has_variable;
    expansion.substituted.is_whole = expansion.substituted.is_only(&scalar.text);
    (expansion.problems, expansion.substituted)
}

struct Expansion<'a> {
    env: Env<'a>,
    stand_in: Option<&'static str>,
    problems: Vec<String>,
    has_variable: bool,
    /// The values that came from the environment. A default does not count: it is in the file.
    substituted: Substituted,
}

impl Expansion<'_> {
    /// How deeply defaults may be nested in defaults.
    const MAX_DEPTH: usize = 8;

    fn expand(&mut self, text: &str, depth: usize) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            rest = if let Some(after) = after.strip_prefix('$') {
                expanded.push('$');
                after
            } else if let Some(inner) = after.strip_prefix('{') {
                let Some(end) = closing_brace(inner) else {
                    self.problems.push("\"${\" without a closing \"}\"".to_owned());
                    return expanded;
                };
                expanded.push_str(&self.value(&inner[..end], depth));
                &inner[end + 1..]
            } else {
                expanded.push('$');
                after
            };
        }
        expanded + rest
    }

    /// Returns the value of `${reference}`.
    fn value(&mut self, reference: &str, depth: usize) -> String {
        self.has_variable = true;
        let end = reference.find(|c: char| !is_name_char(c)).unwrap_or(reference.len());
        let (name, operator) = reference.split_at(end);
        if !is_name(name) {
            return self.invalid(reference);
        }
        let value = (self.env)(name);
        self.substituted.add(name, value.as_deref().unwrap_or_default());
        let filled = value.clone().filter(|value| !value.is_empty());
        if operator.is_empty() {
            value.unwrap_or_else(|| self.missing(name, ""))
        } else if let Some(default) = operator.strip_prefix(":-") {
            filled.unwrap_or_else(|| self.default(default, depth))
        } else if let Some(hint) = operator.strip_prefix(":?") {
            filled.unwrap_or_else(|| self.missing(name, hint))
        } else {
            self.invalid(reference)
        }
    }

    fn default(&mut self, text: &str, depth: usize) -> String {
        if depth == Self::MAX_DEPTH {
            self.problems.push("variables are nested too deeply".to_owned());
            return String::new();
        }
        self.expand(text, depth + 1)
    }

    fn missing(&mut self, name: &str, hint: &str) -> String {
        if let Some(stand_in) = self.stand_in {
            return stand_in.to_owned();
        }
        self.problems.push(match hint.trim() {
            "" => format!("the variable {name} is not set; set it, or write ${{{name}:-default}}"),
            hint => format!("the variable {name} is not set: {hint}"),
        });
        String::new()
    }

    fn invalid(&mut self, reference: &str) -> String {
        self.problems.push(format!(
            "\"${{{reference}}}\" is not a variable; use ${{VAR}}, ${{VAR:-default}} or \
             ${{VAR:?hint}}, and $$ for a dollar"
        ));
        String::new()
    }
}

/// Finds the brace that closes the one opened before `text`. A default may contain `{channel}`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    for (index, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(index);
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| !c.is_ascii_digit())
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::{Variables, replace_in};
    use crate::tree::Scalar;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "HOST" => "redis.example",
            "EMPTY" => "",
            "PRICE" => "$${HOST}",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn replaced(text: &str) -> Result<String, Vec<String>> {
        let mut scalar = Scalar { text: text.to_owned(), is_plain: true };
        let variables = Variables { env: &env, stand_in: &|_| None };
        let (problems, _) = replace_in(&mut scalar, "key", variables);
        if problems.is_empty() { Ok(scalar.text) } else { Err(problems) }
    }

    #[test]
    fn variables_are_replaced_by_their_values_or_their_defaults() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOST}", "redis.example"),
            ("redis://${HOST}:${PORT:-6379}/", "redis://redis.example:6379/"),
            ("a${EMPTY}b", "ab"),
            ("${EMPTY:-x}", "x"),
            ("${HOST:-x}", "redis.example"),
            ("${HOST:?set it}", "redis.example"),
            ("${NONE:-}", ""),
            ("${NONE:-${ALSO_NONE:-${HOST}}}", "redis.example"),
            ("${NONE:-user:{id}}", "user:{id}"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("pa$word", "pa$word"),
            ("$", "$"),
            ("${PRICE}", "$${HOST}"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_missing_variable_is_named_with_its_hint() {
        for (text, expected) in [
            ("${A}", "the variable A is not set; set it, or write ${A:-default}"),
            ("${A:?where Redis is}", "the variable A is not set: where Redis is"),
            ("${EMPTY:?x}", "the variable EMPTY is not set: x"),
            ("${NONE:-${A}}", "the variable A is not set; set it, or write ${A:-default}"),
            ("${A", "\"${\" without a closing \"}\""),
            (
                "${A:+x}",
                "\"${A:+x}\" is not a variable; use ${VAR}, ${VAR:-default} or ${VAR:?hint}, \
                 and $$ for a dollar",
            ),
        ] {
            assert_eq!(replaced(text), Err(vec![expected.to_owned()]), "{text}");
        }
        for text in ["${}", "${1A}", "${A-B}", "${ A }"] {
            let problems = replaced(text).expect_err(text);
            assert!(problems[0].contains("is not a variable"), "{text}: {problems:?}");
        }
        assert_eq!(replaced("${A} ${B}").expect_err("two").len(), 2);
    }

    #[test]
    fn a_missing_variable_of_a_key_that_is_not_used_needs_no_value() {
        let stand_in = |path: &str| (path == "unused").then_some("x");
        let variables = Variables { env: &env, stand_in: &stand_in };
        let replaced = |text: &str, path: &str| {
            let mut scalar = Scalar { text: text.to_owned(), is_plain: true };
            let (problems, _) = replace_in(&mut scalar, path, variables);
            (scalar.text, problems.len())
        };
        assert_eq!(replaced("a${A}${B:?set it}${HOST}", "unused"), ("axxredis.example".into(), 0));
        assert_eq!(replaced("${A:-${B}}", "unused"), ("x".into(), 0));
        assert_eq!(replaced("${A-B}", "unused").1, 1, "a mistake stays one");
        assert_eq!(replaced("${A}", "used").1, 1);
    }

    #[test]
    fn nesting_of_defaults_is_bounded() {
        let deep = "${A:-".repeat(100) + &"}".repeat(100);
        assert_eq!(replaced(&deep), Err(vec!["variables are nested too deeply".to_owned()]));
    }
}
