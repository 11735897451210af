//! `ssegate check --print`: the configuration as understood.

use tempfile::TempDir;

use super::{ssegate, stderr, stdout};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

/// `check` of a file with this text, with the variable `KEY`.
fn check(text: &str, arguments: &[&str], key: &str) -> std::process::Output {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("gateway.yaml"), text).unwrap();
    let arguments = [&["check"], arguments].concat();
    ssegate(&arguments, &directory).env("KEY", key).output().unwrap()
}

fn yaml(route: &str) -> String {
    format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"redis://:${{KEY}}@127.0.0.1:1\" }}\n\
         sse: {{ keep_alive: 3s }}\n\
         routes:\n  - {{ path: /x, events: {{ channels: [x] }}, auth: {{ jwt: {{ keys: \"${{KEY}}\", algorithms: HS256 }} }} }}\n\
         {route}"
    )
}

#[test]
fn what_is_printed_has_all_defaults_and_no_secret_and_is_a_configuration() {
    let output = check(&yaml(""), &["--print"], SECRET);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = stdout(&output);
    for line in [
        "  url: \"redis://:(hidden)@127.0.0.1:1\"",
        "      keep_alive: 3s  # of sse",
        "          keys: \"(hidden)\"",
        "drain: 10s  # default",
    ] {
        let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
        assert!(lines.iter().any(|one| one.trim() == line.trim()), "{line:?} is not in\n{printed}");
    }
    assert!(!printed.contains("hunter2") && !stderr(&output).contains("hunter2"), "{printed}");

    // With the secrets put back it is the same configuration, and prints the same.
    let whole =
        printed.replace("://:(hidden)@", "://:${KEY}@").replace("\"(hidden)\"", "\"${KEY}\"");
    let again = check(&whole, &["--print"], SECRET);
    assert_eq!(again.status.code(), Some(0), "{}\n{whole}", stderr(&again));
    let bare = |text: &str| {
        let lines = text.lines().map(|line| line.split("  # ").next().unwrap().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(bare(stdout(&again)), bare(printed));
}

#[test]
fn nothing_is_printed_of_a_file_with_mistakes() {
    let output = check(&yaml("drain: ${KEY}\n"), &["--print"], SECRET);
    assert_eq!((output.status.code(), stdout(&output)), (Some(64), ""));
    assert!(stderr(&output).starts_with("drain: the value of ${KEY} is not a duration"));
    assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
}
