//! `ssegate revoke`: its arguments and its errors. What it does: `tests/integration/revoking.rs`.

use tempfile::TempDir;

use super::{run, ssegate, stderr, stdout};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOWHERE: &str = "redis://user:hunter2@127.0.0.1:1";

#[test]
fn a_mistake_says_what_to_do_and_repeats_no_secret() {
    let redis = ["--redis", NOWHERE];
    let all = [&redis[..], &["--control-channel", "ssegate:c", "--key", SECRET]].concat();
    let usage = |arguments: &[&'static str], more: &[&'static str]| [arguments, more].concat();
    for (arguments, said) in [
        (usage(&[], &all), "required arguments were not provided"),
        (usage(&["--sub", "42", "--all"], &all), "cannot be used with"),
        (usage(&["--token-id", "t", "--block"], &all), "--block goes with --sub alone"),
        (usage(&["--sub", "42", "--for", "1y"], &all), "use forms like"),
        (usage(&["--sub", "42", "--for", "9000h"], &all), "--for is at most 366 days"),
        (usage(&["--sub", ""], &all), "an id has 1 to 1024 bytes"),
        (usage(&["--sub", "42"], &redis), "name the channel with --control-channel"),
        (
            usage(&["--sub", "42", "--control-channel", "ssegate:c"], &redis),
            "give the key: --key @FILE, or the variable SSEGATE_REVOCATION_KEY",
        ),
        (
            usage(&["--sub", "42", "--control-channel", "", "--key", SECRET], &redis),
            "--control-channel: must begin with ssegate:",
        ),
        (
            usage(&["--sub", "42", "--control-channel", "ssegate:c", "--key", "hunter2"], &redis),
            "--key has 7 bytes, at least 32 are required",
        ),
        (
            usage(&["--sub", "42", "--control-channel", "ssegate:c", "--key", "@no/such"], &redis),
            "--key: cannot read the file after @: ",
        ),
        (usage(&["--sub", "42", "--redis", "http://x"], &[]), "--redis: unknown scheme"),
    ] {
        let output = run(&[&["revoke"][..], &arguments].concat());
        assert_eq!((output.status.code(), stdout(&output)), (Some(64), ""), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
}

#[test]
fn a_redis_that_is_not_there_is_one_clear_line() {
    let directory = TempDir::new().unwrap();
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"{NOWHERE}\" }}\n\
         revocation: {{ control_channel: \"ssegate:c\", key: {SECRET} }}\n\
         routes: [{{ path: /x, events: {{ channels: [x] }} }}]\n"
    );
    std::fs::write(directory.path().join("gateway.yaml"), yaml).unwrap();
    let output = ssegate(&["revoke", "--sub", "42"], &directory).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.starts_with("ssegate: cannot revoke through 127.0.0.1:1: cannot connect: "),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}
