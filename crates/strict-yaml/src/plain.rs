//! A configuration as plain values, with its variables replaced: to be completed, and written as YAML again.

use crate::error::ConfigErrors;
use crate::mistakes::Mistakes;
use crate::read::read;
use crate::tree::{Node, NodeValue};
use crate::variables::{self, Env, StandIn, Variables};

/// A value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainValue {
    /// `key:` without a value.
    Nothing,
    /// A scalar.
    Scalar {
        /// Its text.
        text: String,
        /// Whether it stood without quotes, and so may be a number or a boolean.
        is_bare: bool,
    },
    /// A sequence.
    List(Vec<Self>),
    /// A mapping, in the order of the file.
    Map(Vec<PlainEntry>),
}

/// A key of a mapping, with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainEntry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: PlainValue,
    /// Written behind it as a comment; empty: none.
    pub comment: &'static str,
}

/// Reads `text`, with variables as [`parse()`](crate::parse()) replaces them. What the keys mean is not checked.
///
/// # Errors
/// A syntax error, or every variable that is missing.
pub fn plain(
    text: &str,
    file: &str,
    (env, stand_in): (Env<'_>, StandIn<'_>),
) -> Result<PlainValue, ConfigErrors> {
    let mistakes = Mistakes::default();
    let mut tree = read(text, file, &mistakes)?;
    variables::replace(&mut tree, Variables { env, stand_in }, &mistakes);
    let value = PlainValue::of(&tree);
    let mistakes = mistakes.into_vec();
    if mistakes.is_empty() { Ok(value) } else { Err(ConfigErrors::new(file, mistakes)) }
}

impl PlainValue {
    fn of(node: &Node) -> Self {
        match &node.value {
            NodeValue::Nothing | NodeValue::Invalid => Self::Nothing,
            NodeValue::Scalar(scalar) => {
                Self::Scalar { text: scalar.text.clone(), is_bare: scalar.is_plain }
            }
            NodeValue::List(items) => Self::List(items.iter().map(Self::of).collect()),
            NodeValue::Map(entries) => Self::Map(
                entries
                    .iter()
                    .map(|(key, value)| PlainEntry {
                        key: key.name.clone(),
                        value: Self::of(value),
                        comment: "",
                    })
                    .collect(),
            ),
        }
    }

    /// Its entries, if it is a mapping.
    pub fn entries(&self) -> &[PlainEntry] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of `key`, if it is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Writes a document in block style. Dollar signs are doubled, because `$` begins a variable.
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::new();
        match self {
            value if value.is_block() => write_block(&mut yaml, value, 0),
            value => yaml = format!("{}\n", value.inline()),
        }
        yaml
    }

    /// A scalar or an empty collection, which fits on the line of its key.
    fn inline(&self) -> String {
        match self {
            Self::Nothing => "~".to_owned(),
            Self::Scalar { text, is_bare } => scalar(text, *is_bare),
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        }
    }

    fn is_block(&self) -> bool {
        matches!(self, Self::List(items) if !items.is_empty())
            || matches!(self, Self::Map(entries) if !entries.is_empty())
    }
}

/// Writes the entries at this depth. `is_begun`: the first line has its indent already, behind a `- `.
fn write_entries(yaml: &mut String, entries: &[PlainEntry], depth: usize, mut is_begun: bool) {
    for PlainEntry { key, value, comment } in entries {
        let indent = if std::mem::take(&mut is_begun) { 0 } else { depth };
        // Keys are not expanded.
        let key = if is_safe(key) { key.clone() } else { quoted(key) };
        let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
        let spaces = "  ".repeat(indent);
        if value.is_block() {
            yaml.push_str(&format!("{spaces}{key}:{comment}\n"));
            write_block(yaml, value, depth + 1);
        } else {
            yaml.push_str(&format!("{spaces}{key}: {}{comment}\n", value.inline()));
        }
    }
}

fn write_block(yaml: &mut String, value: &PlainValue, depth: usize) {
    match value {
        PlainValue::Map(entries) => write_entries(yaml, entries, depth, false),
        PlainValue::List(items) => {
            for item in items {
                yaml.push_str(&"  ".repeat(depth));
                yaml.push_str("- ");
                match item {
                    PlainValue::Map(entries) if !entries.is_empty() => {
                        write_entries(yaml, entries, depth + 1, true);
                    }
                    PlainValue::List(nested) if !nested.is_empty() => {
                        yaml.push('\n');
                        write_block(yaml, item, depth + 1);
                    }
                    _ => yaml.push_str(&format!("{}\n", item.inline())),
                }
            }
        }
        PlainValue::Nothing | PlainValue::Scalar { .. } => {}
    }
}

fn scalar(text: &str, is_bare: bool) -> String {
    let text = text.replace('$', "$$");
    if is_bare && is_safe(&text) { text } else { quoted(&text) }
}

/// Whether a text reads the same without quotes. False also for some texts that would.
fn is_safe(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_./+-%(".contains(c);
    let inside = |c: char| is_word(c) || ":@=)".contains(c);
    text.starts_with(is_word)
        && !text.starts_with('-')
        && !text.starts_with('%')
        && text.chars().all(inside)
        && !text.ends_with(':')
}

/// In double quotes, whose escapes are those of JSON and more (YAML 1.2, section 5.7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::{PlainValue, plain};

    fn read(text: &str) -> PlainValue {
        let env = |name: &str| (name == "V").then(|| "a$b # \"c\"".to_owned());
        plain(text, "f", (&env, &|_| None)).unwrap_or_else(|errors| panic!("{text}: {errors}"))
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in [
            "a: 1\nb: [x, 2, '3', off, \"\", ~, [], {}, [1, [2]], {c: d, e: [f]}]",
            "a: {b: {c: {d: e}}}",
            "a: '~'\nb: 'null'\nc: '1'\nd: 'true'\ne: '- x'\nf: 'a: b'\ng: ' x '\nh: '#'\ni: '*a'\nj: '&a'",
            "a: \"line\\nline\\ttab \\u0007 \\u009b \\u2028 \\\\ \\\"\"",
            "a: |\n  one\n  two\n",
            "'a b': 1\n'c:': 2\n'': 3\nü: 4",
            "- 1\n- {a: b}",
            "x: 5s\ny: 64KiB\nz: 127.0.0.1:80\nw: /events/{channel}\nv: \"{channel}\"\nu: -1",
            "just a text",
        ] {
            let value = read(text);
            let yaml = value.to_yaml();
            // A plain text that is not safe gets quotes; it stays the same text.
            let again = read(&yaml);
            assert_eq!(again.to_yaml(), yaml, "{text}");
            assert_eq!(texts(&again), texts(&value), "{yaml}");
        }
    }

    /// All keys and texts, in their order.
    fn texts(value: &PlainValue) -> Vec<String> {
        match value {
            PlainValue::Nothing => vec!["nothing".into()],
            PlainValue::Scalar { text, .. } => vec![text.clone()],
            PlainValue::List(items) => {
                let texts = items.iter().flat_map(texts);
                std::iter::once("[".into()).chain(texts).chain(["]".into()]).collect()
            }
            PlainValue::Map(entries) => {
                let texts = entries.iter().flat_map(|entry| {
                    std::iter::once(entry.key.clone()).chain(texts(&entry.value))
                });
                std::iter::once("{".into()).chain(texts).chain(["}".into()]).collect()
            }
        }
    }

    #[test]
    fn a_value_of_a_variable_is_written_out_and_not_replaced_again() {
        let yaml = read("a: ${V}\nb: $$x\nc: \"${V}$${V}\"").to_yaml();
        assert_eq!(yaml, "a: \"a$$b # \\\"c\\\"\"\nb: \"$$x\"\nc: \"a$$b # \\\"c\\\"$${V}\"\n");
        let expected = PlainValue::Scalar { text: "a$b # \"c\"${V}".into(), is_bare: false };
        assert_eq!(read(&yaml).get("c"), Some(&expected));
    }

    #[test]
    fn numbers_stay_numbers_and_texts_in_quotes_stay_texts() {
        assert_eq!(
            read("a: 5\nb: '5'\nc: off\nd: 'off'").to_yaml(),
            "a: 5\nb: \"5\"\nc: off\nd: \"off\"\n"
        );
    }

    #[test]
    fn a_missing_variable_is_a_mistake() {
        let error = plain("a: ${MISSING}", "f", (&|_| None, &|_| None)).expect_err("it is not set");
        assert!(error.to_string().contains("MISSING"), "{error}");
    }
}
