//! The commands as a shell sees them: output, exit code, and nothing that should stay secret.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod check;
mod healthcheck;
mod metrics;
mod publish;
mod revoke;
mod sign;
mod sub;
mod token;

use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// ssegate in an empty directory, so that no gateway.yaml is found by accident.
fn ssegate(arguments: &[&str], directory: &TempDir) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ssegate"));
    command.args(arguments).current_dir(directory.path()).stdin(Stdio::null());
    for secret in
        ["SSEGATE_TOKEN", "SSEGATE_TOKEN_KEY", "SSEGATE_URL_KEY", "SSEGATE_REVOCATION_KEY"]
    {
        command.env_remove(secret);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    let directory = TempDir::new().unwrap();
    ssegate(arguments, &directory).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_mistake_of_usage_ends_with_64_and_says_so_on_stderr() {
    for arguments in [
        &["nonsense"][..],
        &["run"],
        &["check"],
        &["run", "-c", "missing.yaml"],
        &["check", "-c", "missing.yaml"],
        &["dev", "--to", "not a url"],
        &["pub", "news", "x", "--redis", "http://127.0.0.1/"],
        &["sub", "http://127.0.0.1:1/", "-H", "no header"],
        &["sub", "news", "--for", "5 parsecs"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
        assert_ne!(stderr(&output), "");
    }
}

#[test]
fn what_is_asked_for_is_on_stdout() {
    for (arguments, expected) in [
        (&["--version"][..], "ssegate 0."),
        (&["help"], "healthcheck"),
        (&["man"], ".TH ssegate-sub 1"),
        (&["schema"], "{"),
        (&["completions", "bash"], "complete -F"),
        (&["completions", "zsh"], "#compdef ssegate"),
        (&["completions", "fish"], "complete -c ssegate"),
    ] {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).contains(expected), "{arguments:?}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn what_cannot_be_written_to_stdout_is_a_failure() {
    let directory = TempDir::new().unwrap();
    let asked = [
        &["--help"][..],
        &["-h"],
        &["help", "pub"],
        &["--version"],
        &["man"],
        &["schema"],
        &["completions", "bash"],
    ];
    for arguments in asked {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = ssegate(arguments, &directory).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.starts_with("ssegate: stdout: No space left"), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");

        // Whoever closes the pipe has seen enough.
        let mut child = ssegate(arguments, &directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let directory = TempDir::new().unwrap();
    let mut child = ssegate(&["man"], &directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}
