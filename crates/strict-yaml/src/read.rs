//! A text to a tree, or to the one mistake that ends the reading.

use serde_saphyr::DuplicateKeyPolicy;

use crate::error::ConfigErrors;
use crate::mistakes::Mistakes;
use crate::tree::Node;
use crate::{duplicates, syntax, tree};

/// Parses one YAML document. A syntax error ends the parsing, so it is the only mistake; duplicate keys are
/// noted.
pub(crate) fn read(text: &str, file: &str, mistakes: &Mistakes) -> Result<Node, ConfigErrors> {
    let error = match tree::parse(text, DuplicateKeyPolicy::Error) {
        Ok(root) => return Ok(root),
        Err(error) => error,
    };
    // The error has the location of the second key only, and ends the parsing. Parsed again, the tree has
    // both. Where the parser unites them before (integer keys, merged mappings), the error stands.
    if matches!(error, serde_saphyr::Error::DuplicateMappingKey { .. })
        && let Ok(mut root) = tree::parse(text, DuplicateKeyPolicy::LastWins)
        && duplicates::remove(&mut root, mistakes)
    {
        return Ok(root);
    }
    Err(ConfigErrors::new(file, vec![syntax::mistake(&error, text)]))
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::mistakes::Mistakes;

    #[test]
    fn nested_aliases_cannot_exhaust_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let aliases = vec![format!("*a{before}"); 10].join(", ");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        let errors = read(&text, "f", &Mistakes::default()).expect_err("too many");
        assert!(errors.to_string().starts_with("too large: "), "{errors}");
    }
}
