//! The text of a channel's template, taken apart: `{name}` is a placeholder, `{{` and `}}` are braces.

/// A template as literal text and names of placeholders by turns, beginning and ending with text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateText<'a> {
    /// The literal texts: one more than placeholders. They may be empty.
    pub literals: Vec<String>,
    /// What is between the braces of the placeholders.
    pub names: Vec<&'a str>,
}

impl<'a> TemplateText<'a> {
    /// Takes a template apart. Unbalanced braces are literal text; the configuration rejects them.
    pub fn new(text: &'a str) -> Self {
        let (mut literals, mut names) = (Vec::new(), Vec::new());
        let (mut literal, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, behind) = rest.split_at(at);
            literal.push_str(before);
            // A brace is one byte.
            let (brace, behind) = behind.split_at(1);
            if let Some(after) = behind.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
            } else if brace == "{"
                && let Some((name, after)) = behind.split_once('}')
            {
                literals.push(std::mem::take(&mut literal));
                names.push(name);
                rest = after;
            } else {
                literal.push_str(brace);
                rest = behind;
            }
        }
        literals.push(literal + rest);
        Self { literals, names }
    }
}

#[cfg(test)]
mod tests {
    use super::TemplateText;

    #[test]
    fn doubled_braces_are_text() {
        for (text, literals, names) in [
            ("news", vec!["news"], vec![]),
            ("{a}", vec!["", ""], vec!["a"]),
            ("user:{a}{query.b}!", vec!["user:", "", "!"], vec!["a", "query.b"]),
            ("orders-{{{tenant}}}-new", vec!["orders-{", "}-new"], vec!["tenant"]),
            ("{{eu}}:{id}", vec!["{eu}:", ""], vec!["id"]),
            ("{{{{", vec!["{{"], vec![]),
            ("a}b{", vec!["a}b{"], vec![]),
        ] {
            let expected = literals.into_iter().map(str::to_owned).collect();
            assert_eq!(
                TemplateText::new(text),
                TemplateText { literals: expected, names },
                "{text}"
            );
        }
    }
}
