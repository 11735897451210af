#![no_main]
//! Any text is a configuration, or its mistakes are told, each with a place that is in the text.

use libfuzzer_sys::fuzz_target;
use ssegate::route::Router;

/// Keys that are nowhere: they ought to be in the file and are not, or speak from their default.
const WITHOUT_PLACE: [&str; 4] = ["listeners", "redis", "routes", "admin.address"];

fuzz_target!(|text: &str| {
    let env = |name: &str| (name.len() % 2 == 0).then(|| name.to_owned());
    match ssegate::config::parse(text, "gateway.yaml", &env) {
        Ok(settings) => {
            assert!(settings.shards > 0 && !settings.listeners.is_empty());
            drop(
                Router::new(&settings.routes, None).expect("routes that were taken stand together"),
            );
        }
        Err(mistakes) => {
            assert!(!mistakes.mistakes().is_empty());
            // YAML knows more line ends than LF.
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u32;
            for mistake in mistakes.mistakes() {
                assert!(!mistake.message().is_empty());
                let Some((line, column)) = mistake.position() else {
                    assert!(WITHOUT_PLACE.contains(&mistake.path()), "no place: {mistakes}");
                    continue;
                };
                assert!(
                    (1..=lines).contains(&line) && column >= 1,
                    "{line}:{column} of {mistakes}"
                );
            }
            let told = mistakes.to_string();
            assert!(told.lines().count() >= mistakes.mistakes().len());
            assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told:?}");
        }
    }
});
