//! Whether two keys are the same.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// The SHA-256 of a key. The libraries' own types of keys cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of a key of this kind with these components. Each is hashed with its
    /// length, so that no two lists of components are the same bytes.
    pub(crate) fn of(kind: &str, components: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for component in [kind.as_bytes()].iter().chain(components) {
            context.update(&(component.len() as u64).to_be_bytes());
            context.update(component);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

/// Shows nothing of the hash: a weak secret could be guessed from it.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn other_components_have_another_fingerprint() {
        let one = Fingerprint::of("rsa", &[b"ab", b"c"]);
        assert_eq!(one, Fingerprint::of("rsa", &[b"ab", b"c"]));
        for other in [
            Fingerprint::of("rsa", &[b"a", b"bc"]),
            Fingerprint::of("rsa", &[b"abc"]),
            Fingerprint::of("rsa", &[b"ab", b"c", b""]),
            Fingerprint::of("rsaab", &[b"c"]),
            Fingerprint::of("secret", &[b"ab", b"c"]),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(format!("{one:?}"), "Fingerprint(…)");
    }
}
