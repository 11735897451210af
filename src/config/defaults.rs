//! The defaults, as gateway.yaml has them: that file is a part of the program.
//!
//! Tests compare them with those in code, and generate docs/CONFIGURATION.md of them.

use std::collections::BTreeMap;

/// The reference of all keys.
pub(super) const REFERENCE: &str = include_str!("../../gateway.yaml");

/// The values of the keys that gateway.yaml has as commented defaults, by path.
pub(super) fn defaults() -> BTreeMap<String, String> {
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut defaults = BTreeMap::new();
    let with_defaults = reference_with_defaults();
    for (line, written) in with_defaults.lines().zip(REFERENCE.lines()) {
        let text = line.trim_start();
        let item = text.strip_prefix("- ").unwrap_or(text);
        let Some((key, value)) = item.split_once(':').filter(|_| !item.starts_with('#')) else {
            continue;
        };
        let indent = line.len() - text.len() + (text.len() - item.len());
        parents.retain(|(other, _)| *other < indent);
        let list = if text.starts_with("- ") { "[]" } else { "" };
        if let Some((_, parent)) = parents.last_mut().filter(|(_, p)| !p.ends_with("[]")) {
            parent.push_str(list);
        }
        let above: Vec<_> = parents.iter().map(|(_, key)| key.as_str()).collect();
        let path = [&above[..], &[key]].concat().join(".");
        let value = value.split(" #").next().unwrap_or_default().trim();
        if line != written && !value.is_empty() {
            defaults.entry(path).or_insert_with(|| value.to_owned());
        }
        parents.push((indent, key.to_owned()));
    }
    defaults
}

/// The reference with every commented default uncommented.
pub(super) fn reference_with_defaults() -> String {
    let uncommented = |line: &str| {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        match text.strip_prefix('#') {
            Some(rest) if is_default(rest) => format!("{indent}{rest}\n"),
            _ => format!("{line}\n"),
        }
    };
    REFERENCE.lines().map(uncommented).collect()
}

/// Whether the text after a `#` is `key: …` or `  nested_key: …`. Sentences and examples have one more
/// space after the `#`.
fn is_default(text: &str) -> bool {
    let is_sentence = (text.len() - text.trim_start().len()) % 2 == 1;
    let key = text.trim_start().split_once(':').map_or("", |(key, _)| key);
    !is_sentence && !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
