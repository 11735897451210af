//! gateway.yaml, the schema and the code agree.

use std::collections::BTreeSet;

use super::settings;
use crate::config::defaults::{REFERENCE, reference_with_defaults};
use crate::config::{Settings, schema, upstream};
use crate::route::Target;
use crate::server::TlsSettings;

#[test]
fn the_reference_runs_as_it_is() {
    let settings = settings(REFERENCE);
    assert_eq!(settings.listeners[0].tls, Some(TlsSettings::SelfSigned));
    assert_eq!(format!("{:?}", settings.source.location), "embedded://127.0.0.1:6380");
    assert_eq!(settings.routes.len(), 3);
}

#[test]
fn the_defaults_in_the_reference_are_the_defaults() {
    let text = reference_with_defaults();
    assert_eq!(format!("{:#?}", settings(&text)), format!("{:#?}", settings(REFERENCE)));
    let uncommented = text.lines().filter(|line| !REFERENCE.lines().any(|other| other == *line));
    assert!(uncommented.count() > 50, "{text}");
}

#[test]
fn the_reference_names_every_key() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).expect("JSON");
    let mut keys = BTreeSet::new();
    collect_properties(&schema, &mut keys);
    assert!(keys.contains("keep_alive") && keys.contains("self_signed"), "{keys:?}");
    let names = |key: &str, line: &str| {
        let text = line.trim_start_matches([' ', '#', '-']);
        text.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
    };
    for key in keys {
        assert!(REFERENCE.lines().any(|line| names(&key, line)), "{key} is not in gateway.yaml");
    }
}

fn collect_properties(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            if let Some(properties) = object.get("properties").and_then(|value| value.as_object()) {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| collect_properties(value, keys));
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|value| collect_properties(value, keys));
        }
        _ => {}
    }
}

#[test]
fn the_schema_is_draft_07_and_closed() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).expect("JSON");
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn dev_is_the_reference_with_a_demo_page() {
    let dev =
        format!("{:#?}", Settings::dev(Some(upstream("http://127.0.0.1:8000").expect("a URL"))));
    let mut reference = settings(REFERENCE);
    // Who tries it out publishes from the status page, too.
    reference.admin.as_mut().expect("it has an admin listener").page_publishes = true;
    assert_eq!(dev, format!("{reference:#?}"));
    assert!(matches!(Settings::dev(None).routes[2].target, Target::Demo));
}
