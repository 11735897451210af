//! The docs name files that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What is read by people, beside `docs/`.
const OUTSIDE_DOCS: [&str; 9] = [
    "README.md",
    "README.ja.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "llms.txt",
    "benches/README.md",
    "deploy/README.md",
    "examples/php/README.md",
    "src/lib.rs",
];
/// Files that the docs tell the reader to add.
const TO_ADD: [&str; 1] = ["src/source/kafka/"];
const DIRECTORIES: [&str; 9] =
    ["src/", "tests/", "benches/", "docs/", "fuzz/", "deploy/", "examples/", ".github/", "crates/"];

/// The name of each document, and its text.
pub(crate) fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_docs = fs::read_dir(root.join("docs")).expect("docs/");
    let in_docs = in_docs.map(|entry| entry.expect("an entry").file_name());
    let in_docs = in_docs.map(|name| format!("docs/{}", name.to_string_lossy()));
    let names = OUTSIDE_DOCS.into_iter().map(str::to_owned);
    let names = names.chain(in_docs.filter(|name| name.ends_with(".md")));
    names
        .map(|name| (fs::read_to_string(root.join(&name)).expect(&name), name))
        .map(|(t, n)| (n, t))
        .collect()
}

#[test]
fn the_docs_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = BTreeSet::new();
    let mut named = 0;
    for (doc, text) in documents() {
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
    let more = ["CHANGELOG.md", "gateway.yaml"];
    let read = |doc: &str| (doc.to_owned(), fs::read_to_string(root.join(doc)).expect(doc));
    for (doc, text) in documents().into_iter().chain(more.map(read)) {
        let text = text.to_lowercase();
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
