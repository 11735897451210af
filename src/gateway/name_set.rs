//! The channel names that a template can make, and whether two templates can make the same name.

use crate::route::TemplateText;

/// One character of a name, or a wildcard of a placeholder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamePiece {
    Char(char),
    /// Any character.
    One,
    /// Any number of characters.
    Many,
}

/// The names that a template can make.
pub(super) struct NameSet(Vec<NamePiece>);

impl NameSet {
    /// Those of a template on a route that strips `prefix` from names.
    pub(super) fn new(prefix: &str, template: &str) -> Self {
        let mut pieces: Vec<_> = prefix.chars().map(NamePiece::Char).collect();
        for (index, literal) in TemplateText::new(template).literals.iter().enumerate() {
            if index > 0 {
                // A placeholder has at least one character.
                pieces.extend([NamePiece::One, NamePiece::Many]);
            }
            pieces.extend(literal.chars().map(NamePiece::Char));
        }
        Self(pieces)
    }

    /// Whether both can make the same name.
    pub(super) fn meets(&self, other: &Self) -> bool {
        overlap(&self.0, &other.0)
    }

    /// As [`Self::meets`], for an open and a protected template. A literal open name does not count against a
    /// template for any name: whoever wrote out the name made it public on purpose.
    pub(super) fn may_be_meant_by(&self, protected: &Self) -> bool {
        let is_literal = self.0.iter().all(|piece| matches!(piece, NamePiece::Char(_)));
        let is_any = protected.0 == [NamePiece::One, NamePiece::Many];
        !(is_literal && is_any) && self.meets(protected)
    }
}

/// Whether a text matches both. `ends[j]`: whether `a[i..]` and `b[j..]` match a common text; computed from the end.
fn overlap(a: &[NamePiece], b: &[NamePiece]) -> bool {
    let mut after = vec![false; b.len() + 1];
    for i in (0..=a.len()).rev() {
        let mut ends = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            let (first, second) = (a.get(i).copied(), b.get(j).copied());
            ends[j] = match (first, second) {
                (None, None) => true,
                (Some(NamePiece::Many), _) => after[j] || (j < b.len() && ends[j + 1]),
                (_, Some(NamePiece::Many)) => ends[j + 1] || (i < a.len() && after[j]),
                (Some(NamePiece::Char(one)), Some(NamePiece::Char(other))) => {
                    one == other && after[j + 1]
                }
                (Some(_), Some(_)) => after[j + 1],
                (None, _) | (_, None) => false,
            };
        }
        after = ends;
    }
    after[0]
}

#[cfg(test)]
mod tests {
    use super::NameSet;

    #[test]
    fn templates_that_make_the_same_name_are_found() {
        for (open, protected, expected) in [
            ("{channel}", "user:{auth.id}", true),
            ("user:{id}", "user:{auth.id}", true),
            ("user:1", "user:{auth.id}", true),
            ("user:", "user:{auth.id}", false),
            ("news", "user:{auth.id}", false),
            ("news", "news", true),
            ("news", "{query.channel}", false),
            ("news:{id}", "{query.channel}", true),
            ("{id}:log", "user:{auth.id}", true),
            ("{id}:log", "user:{auth.id}:mail", false),
            ("a{x}", "{y}b", true),
            ("", "", true),
        ] {
            let [open_pieces, protected_pieces] =
                [open, protected].map(|text| NameSet::new("", text));
            let may_be = open_pieces.may_be_meant_by(&protected_pieces);
            assert_eq!(may_be, expected, "{open} {protected}");
        }
        assert!(NameSet::new("", "news").meets(&NameSet::new("", "{x}")));
        assert!(!NameSet::new("a:", "{x}").may_be_meant_by(&NameSet::new("b:", "{x}")));
    }
}
