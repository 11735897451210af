//! Which channels a token allows: those that its claim lists, by name or by pattern.

/// Whether `listed` allows a channel, or, if `is_pattern`, all channels that `name` can match.
pub(super) fn allows(listed: &[String], name: &str, is_pattern: bool) -> bool {
    listed.iter().any(|entry| match is_pattern {
        true => includes(entry, name),
        false => entry == name || ssegate_glob::matches(entry.as_bytes(), name.as_bytes()),
    })
}

/// Whether everything that `pattern` matches is matched by `entry`, too. Only what is certain counts: they
/// are equal, or the entry is a prefix with a `*` behind it and the pattern begins with that prefix.
fn includes(entry: &str, pattern: &str) -> bool {
    let is_special = |c: char| matches!(c, '*' | '?' | '[' | '\\');
    let prefix = entry.strip_suffix('*').filter(|prefix| !prefix.contains(is_special));
    entry == pattern
        || prefix.is_some_and(|prefix| {
            let literal = pattern.find(is_special).unwrap_or(pattern.len());
            pattern[..literal].starts_with(prefix)
        })
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::{allows, includes};

    #[test]
    fn a_list_allows_its_names_and_what_its_patterns_match() {
        let listed = ["news", "orders:*", "a?", "x[1-3]", "lit\\*eral"].map(str::to_owned);
        for (name, is_pattern, expected) in [
            ("news", false, true),
            ("New", false, false),
            ("news2", false, false),
            ("orders:7", false, true),
            ("orders", false, false),
            ("a1", false, true),
            ("x2", false, true),
            ("x4", false, false),
            ("lit*eral", false, true),
            ("orders:*", true, true),
            ("orders:eu:*", true, true),
            ("orders:?", true, true),
            ("orders*", true, false),
            ("order?:*", true, false),
            ("*", true, false),
            ("a?", true, true),
            ("a*", true, false),
            ("[o]rders:*", true, false),
            ("news*", true, false),
        ] {
            assert_eq!(allows(&listed, name, is_pattern), expected, "{name}");
        }
        assert!(!allows(&[], "news", false));
        assert!(allows(&["*".to_owned()], "any*", true));
    }

    proptest! {
        #[test]
        fn an_allowed_pattern_matches_nothing_more_than_its_entry(
            entry in r"[ab*?\[\]\\^-]{0,3}", rest in r"[ab*?\[\]\\^-]{0,4}", name in "[ab]{0,6}",
        ) {
            let pattern = format!("{}{rest}", entry.trim_end_matches('*'));
            let matched = |glob: &str| ssegate_glob::matches(glob.as_bytes(), name.as_bytes());
            if includes(&entry, &pattern) {
                prop_assert!(!matched(&pattern) || matched(&entry), "{entry} {pattern} {name}");
            }
        }
    }
}
