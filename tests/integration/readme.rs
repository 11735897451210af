//! The commands that the README and the guide in `docs/` show, run as they are written there.
//!
//! They name the ports of the gateway.yaml at the top of the repository, so these must be free. What a page and
//! its PHP do in a browser is checked in `tests/browser/readme.test.js`.

use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Gateway, Pem, Process, Program, SOON, eventually};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SSEGATE: &str = env!("CARGO_BIN_EXE_ssegate");
/// What is written for contributors, whose commands build, measure and debug.
const FOR_CONTRIBUTORS: [&str; 3] = ["ARCHITECTURE.md", "GLOSSARY.md", "STYLE.md"];
/// Commands of the shell blocks that no test here runs, with what runs them.
const RUN_ELSEWHERE: [(&str, &str); 12] = [
    ("php -S 127.0.0.1:8000", "tests/browser/readme.test.js"),
    ("target/release/ssegate dev --to http://127.0.0.1:8000", "tests/browser/readme.test.js"),
    ("benches/compare --quick", "by hand: it measures the whole machine"),
    ("tests/run", "runs this test"),
    (
        "prlimit --pid \"$(systemctl show -P MainPID ssegate)\" --nofile=100000:100000",
        "tests/integration/troubles.rs, without systemd and with a smaller number",
    ),
    // docs/CERTIFICATES.md
    ("groupadd --system ssegate-tls", "by hand: it changes the machine"),
    (
        "install -m 0755 deploy/certbot-hook /usr/local/bin/ssegate-certbot-hook",
        "by hand: it changes the machine",
    ),
    (
        "certbot certonly -d example.org -d www.example.org --deploy-hook /usr/local/bin/ssegate-certbot-hook",
        "nobody: it needs a domain; the hook is run by tests/integration/deploy.rs",
    ),
    (
        "certbot certonly -d shop.example --deploy-hook /usr/local/bin/ssegate-certbot-hook",
        "nobody: it needs a domain; the hook is run by tests/integration/deploy.rs",
    ),
    ("systemctl daemon-reload && systemctl restart ssegate", "by hand: it needs systemd as init"),
    (
        "openssl s_client -connect 127.0.0.1:443 -servername shop.example </dev/null | openssl x509 -noout -subject -ext subjectAltName -enddate",
        "tests/integration/certificates.rs, on other ports",
    ),
    (
        "curl --resolve shop.example:443:127.0.0.1 https://shop.example/",
        "tests/integration/certificates.rs, on other ports",
    ),
];

/// A document: its name in the repository, and its text.
struct Document {
    name: String,
    text: String,
}

/// The README in its languages, and the guide.
fn documents() -> Vec<Document> {
    let root = Path::new(ROOT);
    let in_docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut names: Vec<_> = in_docs
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md") && !FOR_CONTRIBUTORS.contains(&name.as_str()))
        .map(|name| format!("docs/{name}"))
        .collect();
    names.sort();
    names.splice(0..0, ["README.md".to_owned(), "README.ja.md".to_owned()]);
    let text = |name: &String| std::fs::read_to_string(root.join(name)).unwrap();
    names.into_iter().map(|name| Document { text: text(&name), name }).collect()
}

impl Document {
    /// The code blocks in this language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let fences: Vec<_> = self.text.split("\n```").collect();
        let code = fences.iter().skip(1).step_by(2);
        code.filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned()))
            .collect()
    }
}

/// What a command of a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// Starts the gateway.
    Serve,
    /// Follows the channel `news` until it is ended.
    Listen,
    /// Publishes `hello` to the channel `news`.
    Publish,
    /// Exits with 0.
    Ask,
}

/// What a command is for; `None` for one that none of the tests here could run.
fn purpose(command: &str) -> Option<Purpose> {
    let ssegate = command.trim_start_matches("target/release/").strip_prefix("ssegate ");
    match (command, ssegate) {
        ("cargo run --release -- dev", _) => Some(Purpose::Serve),
        (_, Some(arguments)) if arguments.starts_with("sub ") => Some(Purpose::Listen),
        (_, Some(arguments)) if arguments.starts_with("pub ") => Some(Purpose::Publish),
        (_, Some(arguments)) if !arguments.starts_with("dev") => Some(Purpose::Ask),
        _ if command.starts_with("curl -N") => Some(Purpose::Listen),
        _ if command.starts_with("curl ") && command.contains("/publish/") => {
            Some(Purpose::Publish)
        }
        _ if command.starts_with("curl ") => Some(Purpose::Ask),
        _ if command.starts_with("redis-cli ") => Some(Purpose::Publish),
        _ if command.starts_with("php -r ") => Some(Purpose::Publish),
        _ => None,
    }
}

/// The commands of the shell blocks of all documents, each once.
fn commands() -> BTreeSet<(Purpose, String)> {
    let mut commands = BTreeSet::new();
    for document in documents() {
        let blocks = document.blocks("sh").join("\n");
        for line in blocks.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            if RUN_ELSEWHERE.iter().any(|(command, _)| *command == line) {
                continue;
            }
            let purpose = purpose(line);
            let purpose =
                purpose.unwrap_or_else(|| panic!("{}: no test runs `{line}`", document.name));
            commands.insert((purpose, line.to_owned()));
        }
    }
    commands
}

/// A command for the shell, with the program that has been built for the tests.
fn shell(command: &str) -> Program {
    let command = command
        .strip_prefix("target/release/ssegate ")
        .or_else(|| command.strip_prefix("ssegate "))
        .map_or_else(|| command.to_owned(), |arguments| format!("{SSEGATE} {arguments}"));
    Program::new("/bin/sh").args(["-c", &format!("exec {command}")]).dir(Path::new(ROOT))
}

#[tokio::test]
#[ignore = "needs curl, redis-cli, php-redis and the default ports: run by tests/run"]
async fn what_the_readme_publishes_arrives_where_the_readme_listens() {
    let commands = commands();
    let of = |purpose| commands.iter().filter(move |(its, _)| *its == purpose).map(|(_, c)| c);
    let home = TempDir::new().unwrap();
    let with_home = |program: Program| {
        let program = program.env("HOME", home.path()).env("XDG_STATE_HOME", home.path());
        program.env_remove("REDIS_URL").env_remove("BACKEND_URL")
    };
    // `cargo run --release -- dev`, with the program that has been built for the tests.
    assert_eq!(of(Purpose::Serve).count(), 1, "{commands:?}");
    let ssegate = with_home(Program::new(SSEGATE).arg("dev").dir(Path::new(ROOT)));
    let gateway = Gateway::wait_for(ssegate, TempDir::new().unwrap()).await;

    let listeners: Vec<Process> =
        of(Purpose::Listen).map(|command| with_home(shell(command)).start()).collect();
    assert!(listeners.len() >= 4, "{commands:?}");
    for listener in &listeners {
        let is_open = |line: &String| line == ": ready" || line.contains("connected over HTTP/2");
        let said = || [listener.stdout(), listener.stderr()].concat();
        let ready = async || said().iter().any(is_open);
        eventually(SOON, "a stream is open", ready).await;
    }
    let one = async || gateway.metrics().await.sum("ssegate_channels", &[]) == 1.0;
    eventually(SOON, "the channel is followed", one).await;
    assert!(of(Purpose::Publish).count() >= 5, "{commands:?}");
    for (sent, command) in of(Purpose::Publish).enumerate() {
        with_home(shell(command)).output(SOON).await.success();
        for listener in &listeners {
            let arrived = || listener.stdout().iter().filter(|line| *line == "data: hello").count();
            eventually(SOON, command, async || arrived() == sent + 1).await;
        }
    }
    for command in of(Purpose::Ask) {
        with_home(shell(command)).output(SOON).await.success();
    }
}

#[tokio::test]
#[ignore = "needs php: run by tests/run"]
async fn the_php_of_the_documents_parses() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("block.php");
    let blocks: Vec<_> = documents().iter().flat_map(|document| document.blocks("php")).collect();
    assert!(blocks.len() >= 3, "{blocks:?}");
    for block in blocks {
        let tag = if block.starts_with("<?php") { "" } else { "<?php\n" };
        std::fs::write(&file, format!("{tag}{block}")).unwrap();
        let php = Program::new("/usr/bin/php").args(["-l", file.to_str().unwrap()]);
        php.output(SOON).await.success();
    }
}

/// A whole configuration out of a block that has a part of one.
fn completed(yaml: &str) -> String {
    let is_route = yaml.trim_start().starts_with("- path");
    let yaml = if is_route { format!("routes:\n{yaml}") } else { yaml.to_owned() };
    let others = [
        ("listeners:", "listeners: [address: 127.0.0.1:0]\n"),
        ("redis:", "redis: {url: redis://r}\n"),
        ("routes:", "routes: [{path: /, events: {channels: [x]}}]\n"),
    ];
    let missing = others.iter().filter(|(key, _)| !yaml.lines().any(|line| line.starts_with(key)));
    missing.map(|(_, line)| *line).collect::<String>() + &yaml
}

#[tokio::test]
async fn the_configurations_of_the_documents_are_right() {
    let dir = TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    // Where the hook for certbot puts them.
    for name in ["example.org", "shop.example"] {
        let directory = dir.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        Pem::write(&directory);
    }
    let mut checked = 0;
    for document in documents() {
        for yaml in document.blocks("yaml") {
            let yaml = completed(&yaml)
                .replace("/etc/ssegate/cert.pem", pem.certificate.to_str().unwrap())
                .replace("/etc/ssegate/key.pem", pem.key.to_str().unwrap())
                .replace("/etc/ssegate/tls/", &format!("{}/", dir.path().display()));
            std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
            let check = Program::new(SSEGATE).args(["check"]).dir(dir.path());
            let check = check.env("REDIS_URL", "redis://user:password@127.0.0.1:6379");
            let check = check.env("HANDOVER_KEY", "thirty-two bytes, that is the least");
            let check = check.env("JWT_KEY", "thirty-two bytes, that is the least");
            let check = check.env("REVOCATION_KEY", "thirty-two bytes, that is the least");
            let check = check.env("PRESENCE_KEY", "thirty-two bytes, that is the least");
            let check = check.env("KEEP_SECRET", "thirty-two bytes, that is the least");
            check.output(SOON).await.success();
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked}");
}

#[test]
fn the_five_lines_of_php_are_those_of_the_example() {
    let example = Path::new(ROOT).join("examples/php/handover/stream.php");
    let example = std::fs::read_to_string(example).unwrap();
    let lines = example.strip_prefix("<?php\n\n").expect("PHP begins so").trim_end();
    assert_eq!(lines.lines().count(), 5);
    let documents = documents();
    let proxy = documents.iter().find(|document| document.name == "docs/PROXY.md");
    assert_eq!(proxy.expect("the guide has it").blocks("php"), [lines]);
}

/// A PHP developer gets from nothing to events in the browser; everything else is in the guide.
#[test]
fn the_readme_is_short() {
    let lines = documents()[0].text.lines().count();
    assert!(lines <= 250, "README.md has {lines} lines: move something to docs/");
}
