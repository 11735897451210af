//! The docs name files that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const DOCS: [&str; 10] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches/README.md",
    "docs/ARCHITECTURE.md",
    "docs/GLOSSARY.md",
    "docs/ACCESS_LOG.md",
    "docs/METRICS.md",
    "docs/STYLE.md",
    "src/lib.rs",
];
/// Files that the docs tell the reader to add.
const TO_ADD: [&str; 1] = ["src/source/kafka/"];
const DIRECTORIES: [&str; 9] =
    ["src/", "tests/", "benches/", "docs/", "fuzz/", "deploy/", "examples/", ".github/", "crates/"];

#[test]
fn the_docs_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = BTreeSet::new();
    let mut named = 0;
    for doc in DOCS {
        let text = fs::read_to_string(root.join(doc)).expect(doc);
        for path in paths(&text) {
            named += 1;
            if !root.join(path).exists() && !TO_ADD.contains(&path) {
                missing.insert(format!("{doc}: {path}"));
            }
        }
    }
    assert!(named > 100, "found only {named} paths");
    assert!(missing.is_empty(), "no such file: {missing:#?}");
}

#[test]
fn the_certificate_that_the_gateway_generates_has_one_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let more = ["CHANGELOG.md", "gateway.yaml", "deploy/README.md", "examples/php/README.md"];
    for doc in DOCS.into_iter().chain(more) {
        let text = fs::read_to_string(root.join(doc)).expect(doc).to_lowercase();
        for other in ["local certificate", "generated certificate", "selfsigned"] {
            assert!(!text.contains(other), "{doc} says {other}, not self-signed certificate");
        }
    }
}

/// The words of `text` that begin with a directory of this repository, but for those with a
/// placeholder in capitals, such as `src/source/NAME/`.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    text.split(move |c| !is_part(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| DIRECTORIES.iter().any(|directory| word.starts_with(directory)))
        .filter(|word| !word.contains("NAME"))
}
