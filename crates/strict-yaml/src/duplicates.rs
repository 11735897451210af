//! Duplicate keys: each is a mistake that names the place of the first.

use std::collections::HashMap;

use crate::error::join;
use crate::mistakes::Mistakes;
use crate::tree::{Node, NodeValue};

/// Removes every entry below `node` whose key its mapping has already, and notes it. Returns whether there
/// were any.
pub(crate) fn remove(node: &mut Node, mistakes: &Mistakes) -> bool {
    remove_below(node, String::new(), mistakes)
}

fn remove_below(node: &mut Node, path: String, mistakes: &Mistakes) -> bool {
    let mut has_removed = false;
    match &mut node.value {
        NodeValue::Nothing | NodeValue::Invalid | NodeValue::Scalar(_) => {}
        NodeValue::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                has_removed |= remove_below(item, format!("{path}[{index}]"), mistakes);
            }
        }
        NodeValue::Map(entries) => {
            let mut first_places = HashMap::new();
            entries.retain(|(key, _)| {
                let place = (key.line, key.column);
                let (line, column) = *first_places.entry(key.name.clone()).or_insert(place);
                let is_first = (line, column) == place;
                if !is_first {
                    let message = format!(
                        "duplicate key; the first one is in line {line}, column {column}: remove one \
                         of them"
                    );
                    mistakes.note(&key.location(join(&path, &key.name)), message);
                    has_removed = true;
                }
                is_first
            });
            for (key, value) in entries {
                has_removed |= remove_below(value, join(&path, &key.name), mistakes);
            }
        }
    }
    has_removed
}

#[cfg(test)]
mod tests {
    use crate::error::ConfigErrors;
    use crate::mistakes::Mistakes;
    use crate::read::read;

    fn reported(text: &str) -> String {
        let mistakes = Mistakes::default();
        match read(text, "f", &mistakes) {
            Ok(_) => ConfigErrors::new("f", mistakes.into_vec()).to_string(),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn a_duplicate_key_names_the_place_of_the_first_and_the_reading_goes_on() {
        assert_eq!(
            reported("a: 1\nb: [{c: 2, c: 3, c: 4}]\na: x"),
            "b[0].c: duplicate key; the first one is in line 2, column 6: remove one of them (f:2:12)\n\
             b[0].c: duplicate key; the first one is in line 2, column 6: remove one of them (f:2:18)\n\
             a: duplicate key; the first one is in line 1, column 1: remove one of them (f:3:1)"
        );
    }

    #[test]
    fn a_key_overrides_that_of_a_merged_mapping() {
        assert_eq!(reported("a: &x {b: 1}\nc: {<<: *x, b: 2}\nd: {b: 2, <<: *x}"), "");
    }

    /// Where the parser unites the entries before they arrive here.
    #[test]
    fn no_duplicate_key_is_accepted() {
        for text in ["a: {<<: {b: 1, b: 2}}", "1: a\n1: b", "1: a\nb: 1\nb: 2"] {
            assert!(reported(text).contains("duplicate key"), "{text}: {}", reported(text));
        }
    }
}
