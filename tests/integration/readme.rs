//! The commands that the README shows, run as they are written there.
//!
//! They name the ports of the gateway.yaml at the top of the repository, so these must be free.

use std::path::Path;

use tempfile::TempDir;

use crate::support::{Gateway, Pem, Process, Program, SOON, eventually};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SSEGATE: &str = env!("CARGO_BIN_EXE_ssegate");

/// The code blocks of the README in this language.
fn blocks(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let fences: Vec<_> = readme.split("\n```").collect();
    let code = fences.iter().skip(1).step_by(2);
    code.filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned()))
        .collect()
}

/// The commands of its shell blocks that begin with `program`.
fn commands(program: &str) -> Vec<String> {
    let blocks = blocks("sh").join("\n");
    let lines = blocks.lines().filter(|line| line.starts_with(program));
    let commands: Vec<_> = lines.map(str::to_owned).collect();
    assert!(!commands.is_empty(), "the README shows no {program}");
    commands
}

fn shell(command: &str) -> Program {
    Program::new("/bin/sh").args(["-c", &format!("exec {command}")]).dir(Path::new(ROOT))
}

#[tokio::test]
#[ignore = "needs curl, redis-cli, php-redis and the default ports: run by tests/run"]
async fn what_the_readme_publishes_arrives_where_the_readme_listens() {
    // `cargo run --release`, with the program that has been built for the tests.
    let dir = TempDir::new().unwrap();
    let home = dir.path().to_owned();
    let ssegate = Program::new(SSEGATE)
        .dir(Path::new(ROOT))
        .env("HOME", &home)
        .env("XDG_STATE_HOME", &home)
        .env_remove("REDIS_URL")
        .env_remove("BACKEND_URL");
    let gateway = Gateway::wait_for(ssegate, dir).await;

    // What `cargo run` has built.
    let ours = |command: &String| command.replace("target/release/ssegate", SSEGATE);
    let subscribers: Vec<_> = commands("target/release/ssegate sub").iter().map(ours).collect();
    let state = |program: Program| program.env("HOME", &home).env("XDG_STATE_HOME", &home);
    let listeners = [commands("curl"), subscribers].concat();
    let listeners: Vec<Process> =
        listeners.iter().map(|command| state(shell(command)).start()).collect();
    for listener in &listeners {
        let is_open = |line: &String| line == ": ready" || line.contains("connected over HTTP/2");
        let said = || [listener.stdout(), listener.stderr()].concat();
        let ready = async || said().iter().any(is_open);
        eventually(SOON, "a stream is open", ready).await;
    }
    let two = async || gateway.metrics().await.sum("ssegate_channels", &[]) == 1.0;
    eventually(SOON, "the channel is followed", two).await;
    let publishers: Vec<_> = commands("target/release/ssegate pub").iter().map(ours).collect();
    let publishers = [publishers, commands("redis-cli"), commands("php")].concat();
    for (sent, command) in publishers.iter().enumerate() {
        state(shell(command)).output(SOON).await.success();
        for listener in &listeners {
            let arrived = || listener.stdout().iter().filter(|line| *line == "data: hello").count();
            eventually(SOON, command, async || arrived() == sent + 1).await;
        }
    }
}

#[tokio::test]
async fn the_readmes_configuration_is_right() {
    let dir = TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    for yaml in blocks("yaml") {
        // A route alone stands for a file that has one, and so does what stands beside the routes.
        let others = "listeners: [address: 127.0.0.1:0]\nredis: {url: redis://r}\n";
        let yaml = match () {
            () if yaml.starts_with("  - path") => format!("{others}routes:\n{yaml}"),
            () if yaml.starts_with("auth:") => format!("{others}{yaml}"),
            () if yaml.starts_with("revocation:") => {
                format!("{others}routes: [{{path: /, events: {{channels: [x]}}}}]\n{yaml}")
            }
            () => yaml,
        };
        let yaml = yaml
            .replace("/etc/ssegate/cert.pem", pem.certificate.to_str().unwrap())
            .replace("/etc/ssegate/key.pem", pem.key.to_str().unwrap());
        std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
        let check = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["check"]).dir(dir.path());
        let check = check.env("REDIS_URL", "redis://user:password@127.0.0.1:6379");
        let check = check.env("HANDOVER_KEY", "thirty-two bytes, that is the least");
        let check = check.env("JWT_KEY", "thirty-two bytes, that is the least");
        let check = check.env("REVOCATION_KEY", "thirty-two bytes, that is the least");
        check.output(SOON).await.success();
    }
}

#[test]
fn the_five_lines_of_php_are_those_of_the_example() {
    let example = Path::new(ROOT).join("examples/php/handover/stream.php");
    let example = std::fs::read_to_string(example).unwrap();
    let lines = example.strip_prefix("<?php\n\n").expect("PHP begins so").trim_end();
    assert_eq!(lines.lines().count(), 5);
    assert_eq!(blocks("php"), [lines]);
}
