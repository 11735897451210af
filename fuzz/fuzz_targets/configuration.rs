#![no_main]
//! Any text is a configuration, or its mistakes are told, each with a place that is in the text.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let env = |name: &str| (name.len() % 2 == 0).then(|| name.to_owned());
    if let Err(mistakes) = ssegate::config::parse(text, "gateway.yaml", &env) {
        assert!(!mistakes.to_string().is_empty());
    }
});
