//! The text of the project's source, without what the compiler does not read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every crate of the workspace that is part of the gateway: its name in paths, and its `src`.
pub(crate) fn crates() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut crates = BTreeMap::from([("ssegate".to_owned(), root.join("src"))]);
    for folder in fs::read_dir(root.join("crates")).expect("the folder of crates") {
        let folder = folder.expect("an entry").path();
        if folder.join("Cargo.toml").exists() {
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            crates.insert(name, folder.join("src"));
        }
    }
    crates
}

/// The Rust files below `folder`.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Whether a file holds nothing but tests.
pub(crate) fn is_test(inside: &Path) -> bool {
    inside.components().any(|part| {
        let part = part.as_os_str();
        part == "tests" || part == "tests.rs"
    })
}

/// The code of a file: its comments and the content of its strings removed, and the module of its
/// tests, which stands last.
pub(crate) fn code(text: &str) -> String {
    let code = without_comments_and_strings(text);
    match code.find("#[cfg(test)]\nmod ") {
        Some(tests) if code[tests..].lines().nth(1).is_some_and(|line| line.ends_with('{')) => {
            code[..tests].to_owned()
        }
        _ => code,
    }
}

fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kept, end) = if rest.starts_with("//") {
            ("", rest.find('\n').unwrap_or(rest.len()))
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            ("\"\"", raw.find("\"#").map_or(rest.len(), |end| 3 + end + 2))
        } else if first == '"' {
            ("\"\"", end_of_string(rest))
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") {
            ("' '", rest[2..].find('\'').map_or(rest.len(), |end| 2 + end + 1))
        } else {
            (&rest[..first.len_utf8()], first.len_utf8())
        };
        code.push_str(kept);
        rest = &rest[end..];
    }
    code
}

/// The length of the string literal that `text` begins with.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The words of `code`: identifiers, and every other character by itself.
pub(crate) fn words(code: &str) -> Vec<&str> {
    let is_identifier = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if is_identifier(first) {
            rest.find(|c| !is_identifier(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

#[test]
fn code_is_what_the_compiler_reads() {
    let text = "use a::b; // c::d\nlet s = \"e::f \\\" g\"; let q = '\"';\nlet r = r#\"h \" i\"#;\n\
                #[cfg(test)]\nmod tests {\n    use j::k;\n}\n";
    let code = code(text);
    assert!(code.contains("a::b"));
    for hidden in ["c::d", "e::f", "g", "h", "j::k"] {
        assert!(!words(&code).contains(&hidden) && !code.contains(hidden), "{hidden} in {code}");
    }
}

#[test]
fn words_are_identifiers_and_signs() {
    assert_eq!(
        words("use self::a_b::{C1};"),
        ["use", "self", "::", "a_b", "::", "{", "C1", "}", ";"]
    );
}
