//! Files that are generated from the code, such as pages of docs/: they have to be what is generated now.

/// Compares `file`, by its path in the repository, with `generated`; with `UPDATE_DOCS` in the environment it is written
/// first. `tests` are those that write it, as `cargo test` takes them.
pub(crate) fn assert_current(file: &str, generated: &str, tests: &str) {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).expect("the file is writable");
    }
    let written = std::fs::read_to_string(&path).expect("the file exists");
    let is_current = written == generated;
    assert!(is_current, "{file} is out of date: run UPDATE_DOCS=1 cargo test {tests}");
}
