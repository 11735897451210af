//! A type's name is unique in the project, so that a name alone says which type is meant.

use std::collections::BTreeMap;
use std::fs;

use crate::source;

#[test]
fn a_name_of_a_type_is_unique_in_the_project() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, src) in source::crates() {
        for file in source::rust_files(&src) {
            let inside = file.strip_prefix(&src).expect("a file of src");
            if source::is_test(inside) {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a readable file");
            for declared in types(&source::code(&text)) {
                places.entry(declared).or_default().push(format!("{name}/{}", inside.display()));
            }
        }
    }
    let total = places.len();
    places.retain(|_, places| places.len() > 1);
    println!("{total} types, {} names that mean more than one", places.len());
    assert!(total > 500, "found only {total} types");
    assert!(places.is_empty(), "one name for several types: {places:#?}");
}

/// The names of the types that `code` declares. An associated type of a trait is none: its name is
/// the trait's.
fn types(code: &str) -> Vec<String> {
    let words = source::words(code);
    let mut depth = 0;
    let mut types = Vec::new();
    for pair in words.windows(2) {
        match pair {
            ["{", _] => depth += 1,
            ["}", _] => depth -= 1,
            ["struct" | "enum" | "trait" | "union", name] if is_type(name) => {
                types.push((*name).to_owned());
            }
            ["type", name] if depth == 0 && is_type(name) => types.push((*name).to_owned()),
            _ => {}
        }
    }
    types
}

fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

#[test]
fn types_are_found_at_every_depth() {
    let code = "struct A; type B = u8; impl Body for A { type Data = u8; } fn f() { enum C { D } }";
    assert_eq!(types(code), ["A", "B", "C"]);
}
