//! `revocation`: what it is without a key, and its mistakes.

use std::time::Duration;

use insta::assert_snapshot;

use super::{mistakes, settings, with};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

#[test]
fn nothing_can_be_revoked_unless_it_is_switched_on() {
    for text in ["", "revocation: off\n"] {
        assert_eq!(settings(&with(text)).revocation, None, "{text}");
    }
    let here = settings(&with("revocation: {}\n")).revocation.expect("switched on");
    assert_eq!((here.control, here.remember), (None, Duration::from_secs(86_400)));
    let everywhere = settings(&with(&format!(
        "revocation: {{control_channel: \"ssegate:revoke\", key: {SECRET}, remember: 7d}}\n"
    )));
    let everywhere = everywhere.revocation.expect("switched on");
    assert_eq!(everywhere.remember, Duration::from_secs(7 * 86_400));
    assert_eq!(everywhere.control.expect("a channel").channel.as_str(), "ssegate:revoke");
}

#[test]
fn a_mistake_in_revocation_says_how_to_fix_it_and_repeats_no_secret() {
    let told: Vec<String> = [
        "{control_channel: \"ssegate:c\"}".to_owned(),
        "{control_channel: \"ssegate:c\", key: hunter2}".to_owned(),
        format!("{{control_channel: \"ssegate:c\", key: \"base64:{SECRET}!\"}}"),
        format!("{{key: {SECRET}}}"),
        format!("{{control_channel: \"\", key: {SECRET}}}"),
        format!("{{control_channel: \"__keyspace@0__:x\", key: {SECRET}}}"),
        format!("{{control_channel: c, key: {SECRET}}}"),
        "{remember: 367d}".to_owned(),
        "{remember: 0s}".to_owned(),
        format!("{{channel: c, key: {SECRET}}}"),
        "on".to_owned(),
    ]
    .iter()
    .map(|revocation| mistakes(&with(&format!("revocation: {revocation}\n"))))
    .collect();
    let told = told.join("\n");
    assert!(!told.contains("hunter2"), "{told}");
    assert_snapshot!(told, @r#"
    revocation.key: missing; set the secret with which revocations are signed, such as ${REVOCATION_KEY:?openssl rand -base64 32} (gateway.yaml:6:13)
    revocation.key: has 7 bytes, at least 32 are required; generate one with: openssl rand -base64 32 (gateway.yaml:6:49)
    revocation.key: the text after base64: is not valid base64 (gateway.yaml:6:49)
    revocation.key: signs what is published; set control_channel, too (gateway.yaml:6:19)
    revocation.control_channel: must begin with ssegate:, such as ssegate:revoke (gateway.yaml:6:31)
    revocation.control_channel: must begin with ssegate:, such as ssegate:revoke (gateway.yaml:6:31)
    revocation.control_channel: must begin with ssegate:, such as ssegate:revoke (gateway.yaml:6:31)
    revocation.remember: must be at most 365d; this is 367d (gateway.yaml:6:24)
    revocation.remember: must be at least 1ms; this is 0s (gateway.yaml:6:24)
    revocation.channel: unknown key; the valid keys are control_channel, key and remember (gateway.yaml:6:14)
    revocation.key: signs what is published; set control_channel, too (gateway.yaml:6:31)
    revocation: expected a mapping or off; this is "on" (gateway.yaml:6:13)
    "#);
}
