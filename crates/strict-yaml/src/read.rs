//! A text to a tree, or to the one mistake that ends the reading.

use serde_saphyr::DuplicateKeyPolicy;

use crate::error::ConfigErrors;
use crate::tree::Node;
use crate::{syntax, tree};

/// Parses one YAML document. A syntax error ends the parsing, so it is the only mistake.
pub(crate) fn read(text: &str, file: &str) -> Result<Node, ConfigErrors> {
    tree::parse(text, DuplicateKeyPolicy::Error)
        .map_err(|error| ConfigErrors::new(file, vec![syntax::mistake(&error, text)]))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn nested_aliases_cannot_exhaust_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let aliases = vec![format!("*a{before}"); 10].join(", ");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        let errors = read(&text, "f").expect_err("too many");
        assert!(errors.to_string().starts_with("not valid YAML: "));
    }
}
