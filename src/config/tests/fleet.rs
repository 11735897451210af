//! `fleet`: what it is without a word, switched off and with a key, and its mistakes.

use insta::assert_snapshot;

use super::{mistakes, settings, with};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

#[test]
fn a_gateway_is_one_of_a_fleet_unless_that_is_switched_off() {
    let fleet = |text: &str| settings(&with(text)).source.fleet;
    for text in ["", "fleet: {}\n"] {
        assert_eq!(fleet(text).map(|fleet| fleet.key), Some(None), "{text}");
    }
    assert_eq!(fleet("fleet: off\n"), None);
    let keyed = |key: &str| fleet(&format!("fleet: {{ key: \"{key}\" }}\n")).expect("on").key;
    assert!(keyed(SECRET).is_some() && keyed(SECRET) == keyed(SECRET));
    assert!(keyed(SECRET) != keyed("another-secret-of-thirty-two-bytes"));
}

#[test]
fn a_mistake_in_fleet_says_how_to_fix_it_and_repeats_no_secret() {
    let told: Vec<String> = [
        "{ key: hunter2 }".to_owned(),
        format!("{{ key: \"base64:{SECRET}!\" }}"),
        format!("{{ secret: {SECRET} }}"),
        "on".to_owned(),
    ]
    .iter()
    .map(|fleet| mistakes(&with(&format!("fleet: {fleet}\n"))))
    .collect();
    let told = told.join("\n");
    assert!(!told.contains("hunter2"), "{told}");
    assert_snapshot!(told, @r#"
    fleet.key: has 7 bytes, at least 32 are required; generate one with: openssl rand -base64 32 (gateway.yaml:6:15)
    fleet.key: the text after base64: is not valid base64 (gateway.yaml:6:15)
    fleet.secret: unknown key; the valid keys are key (gateway.yaml:6:10)
    fleet: expected a mapping or off; this is "on" (gateway.yaml:6:8)
    "#);
}
