//! Pages of docs/ that are generated from the code: they have to be what is generated now.

/// Compares docs/`page` with `generated`; with `UPDATE_DOCS` in the environment it is written first. `tests` are those
/// that write it, as `cargo test` takes them.
pub(crate) fn assert_current(page: &str, generated: &str, tests: &str) {
    let file = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, generated).expect("the page is writable");
    }
    let written = std::fs::read_to_string(&file).expect("the page exists");
    let is_current = written == generated;
    assert!(is_current, "docs/{page} is out of date: run UPDATE_DOCS=1 cargo test {tests}");
}
