//! The modules of the crate stand in layers: each names only those below it.

use std::fs;
use std::path::Path;

use crate::source::rust_files;

/// From the top down, as the crate's documentation lists them.
const LAYERS: [&str; 22] = [
    "gateway",
    "config",
    "admin",
    "service",
    "proxy",
    "source",
    "route",
    "webhook",
    "grip",
    "auth",
    "server",
    "http_client",
    "dial",
    "tls_client",
    "log",
    "metrics",
    "health",
    "log_limit",
    "upstream_address",
    "query",
    "bounded_file",
    "hex",
];

#[test]
fn a_module_names_only_modules_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&src) {
        let inside = file.strip_prefix(&src).expect("a file of src");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let Some(own) = layer(first.trim_end_matches(".rs")) else {
            continue;
        };
        let text = fs::read_to_string(&file).expect("a readable file");
        for (number, line) in text.lines().enumerate() {
            for named in line.split("crate::").skip(1) {
                let named: String =
                    named.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if layer(&named).is_some_and(|other| other < own) {
                    wrong.push(format!("{}:{}: {named}", inside.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these look up:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_layer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(src.join("lib.rs")).expect("lib.rs");
    let modules: Vec<&str> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for module in &modules {
        assert!(layer(module).is_some(), "{module} has no layer");
        assert!(map.contains(&format!("| [`{module}`]")), "{module} is not on the map");
    }
    assert_eq!(modules.len(), LAYERS.len());
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}
