//! The units and the configuration that `deploy/` has for systemd, as far as that goes without systemd as
//! init: its own tools check the units, and open the sockets.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{
    Gateway, Pem, Program, Redis, Request, SOON, TlsClient, Via, eventually, free_port,
    shown_certificate,
};

const SSEGATE: &str = env!("CARGO_BIN_EXE_ssegate");

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// The addresses that the socket unit opens.
fn socket_unit() -> Vec<SocketAddr> {
    let unit = read("ssegate.socket");
    let streams = unit.lines().filter_map(|line| line.strip_prefix("ListenStream="));
    streams.map(|address| address.parse().unwrap()).collect()
}

#[tokio::test]
async fn the_units_are_such_that_systemd_has_nothing_to_say() {
    let dir = TempDir::new().unwrap();
    for unit in ["ssegate.service", "ssegate.socket"] {
        let text = read(unit).replace("=ssegate ", &format!("={SSEGATE} "));
        std::fs::write(dir.path().join(unit), text).unwrap();
    }
    let analyze = Path::new("/usr/bin/systemd-analyze");
    assert!(analyze.exists(), "missing: apt-get install systemd");
    let verify = Program::new(analyze).args(["verify", "--man=no"]);
    let verify = ["ssegate.service", "ssegate.socket"]
        .iter()
        .fold(verify, |verify, unit| verify.arg(dir.path().join(unit)));
    let output = verify.output(SOON).await;
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""), "{output:?}");
}

/// Puts a certificate where certbot has it: links from `live` into `archive`.
fn renew(lineage: &Path, number: u32) -> Pem {
    let archive = lineage.join(format!("archive{number}"));
    std::fs::create_dir_all(&archive).unwrap();
    let pem = Pem::write(&archive);
    for (name, file) in [("fullchain.pem", &pem.certificate), ("privkey.pem", &pem.key)] {
        let (link, new) = (lineage.join(name), lineage.join("new"));
        std::os::unix::fs::symlink(file, &new).unwrap();
        std::fs::rename(new, link).unwrap();
    }
    pem
}

#[tokio::test]
async fn a_certificate_that_certbot_renews_is_shown_without_a_restart_or_a_reload() {
    let redis = Redis::start().await;
    let (live, tls) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let [lineage, other] = ["example.org", "shop.example"].map(|name| live.path().join(name));
    let group = rustix::process::getegid().as_raw();
    let hook = async |lineage: &Path| {
        // As certbot calls it, which is root: others have no right to `live`.
        let hook = Program::new(deploy("certbot-hook")).env("SSEGATE_TLS", tls.path());
        let hook = hook.env("SSEGATE_GROUP", group.to_string()).env("RENEWED_LINEAGE", lineage);
        hook.output(SOON).await.success();
    };
    let first = renew(&lineage, 1);
    hook(&lineage).await;
    // That of another site has files of its own.
    renew(&other, 1);
    hook(&other).await;
    let tls = tls.path().join("example.org");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| tls.join(name));
    for file in [&certificate, &key] {
        let metadata = std::fs::metadata(file).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.gid()), (0o640, group), "{file:?}");
    }
    let yaml = format!("{{ certificate: {}, key: {} }}", certificate.display(), key.display());
    let gateway = Gateway::build(&redis).tls(&yaml).start().await;
    assert_eq!(shown_certificate(gateway.address("https")).await, first.der);
    let mut stream = gateway.subscribe("/events/news").await;

    let second = renew(&lineage, 2);
    hook(&lineage).await;
    let is_shown = async || shown_certificate(gateway.address("https")).await == second.der;
    eventually(SOON, "the renewed certificate is shown", is_shown).await;
    redis.publish("news", "the same process").await;
    assert_eq!(stream.next_event().await.data, "the same process");
    let left: Vec<_> = std::fs::read_dir(&tls).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn every_configuration_that_is_shipped_is_right() {
    for name in ["gateway.yaml", "container.yaml"] {
        let check = Program::new(SSEGATE).args(["check", "-c"]).arg(deploy(name));
        let dir = TempDir::new().unwrap();
        let check =
            check.env("REDIS_URL", "redis://127.0.0.1:1").env("STATE_DIRECTORY", dir.path());
        check.output(SOON).await.success();
    }
}

#[tokio::test]
async fn the_sockets_that_systemd_opens_are_those_of_the_configuration_and_it_serves() {
    let activate = Path::new("/usr/bin/systemd-socket-activate");
    assert!(activate.exists(), "missing: apt-get install systemd");
    let redis = Redis::start().await;
    let dir = TempDir::new().unwrap();
    // As they are shipped, on ports that are free here.
    let mut yaml = read("gateway.yaml");
    let mut program = Program::new(activate);
    let mut opened = Vec::new();
    for address in socket_unit() {
        assert!(yaml.contains(&format!("address: {address}\n")), "no listener has {address}");
        let free = SocketAddr::new(address.ip(), free_port());
        yaml = yaml.replace(&format!("{address}\n"), &format!("{free}\n"));
        program = program.args(["-l", &free.to_string()]);
        opened.push(free.port());
    }
    let listeners = yaml.split("admin:").next().unwrap().matches("address: ").count();
    assert_eq!(listeners, opened.len(), "systemd opens all of them");
    yaml = yaml.replace("127.0.0.1:9464", "127.0.0.1:0");
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    let state = format!("STATE_DIRECTORY={}", dir.path().display());
    let redis_url = format!("REDIS_URL={}", redis.url());
    let program = program.args(["-E", &state, "-E", &redis_url, SSEGATE, "run", "-c"]);
    let program = program.arg(dir.path().join("gateway.yaml"));
    // It starts with the first client, who does not notice.
    let [https, http] = opened[..] else { panic!("{opened:?}") };
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let first = async {
        let knock = async || tokio::net::TcpStream::connect(local(http)).await.is_ok();
        eventually(SOON, "systemd listens", knock).await;
        Request::events("/events/news").send(Via::Http1, local(http)).await
    };
    let (first, mut gateway) = tokio::join!(first, Gateway::wait_for(program, dir));
    let mut stream = first.stream();
    stream.ready().await;
    redis.publish("news", "hello").await;
    assert_eq!(stream.next_event().await.data, "hello");
    TlsClient::offering(&["h2"])
        .connect(local(https))
        .await
        .expect("TLS with a self-signed certificate");
    gateway.becomes(200, SOON).await;
    drop(stream);
    gateway.terminate();
    assert_eq!(gateway.exit_within(SOON).await.code(), Some(0));
}

/// What `.dockerignore` lets into the context of `docker build`, copied to `to`.
fn copy_context(to: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    let mut lines = ignored.lines();
    assert_eq!(lines.next(), Some("*"), "all is left out but what follows");
    let kept = lines.map(|line| line.strip_prefix('!').expect(line));
    let script = r#"cd "$1" && git ls-files -z -- $2 | xargs -0 cp --parents -t "$3""#;
    let kept: Vec<&str> = kept.collect();
    let copied = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .args([root, Path::new(&kept.join(" ")), to])
        .status();
    assert!(copied.unwrap().success());
}

#[tokio::test]
async fn the_context_of_docker_build_holds_all_that_cargo_reads() {
    let dir = TempDir::new().unwrap();
    copy_context(dir.path());
    // Cargo does without a build script that is missing, and the compiler does not.
    assert!(dir.path().join("build.rs").exists());
    // Reads every manifest of the workspace, and fails where one or its sources are missing.
    let output = Program::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"])
        .arg("--manifest-path")
        .arg(dir.path().join("Cargo.toml"))
        .output(SOON)
        .await;
    assert_eq!(output.code(), 0, "{output:?}");
}

/// git's files are not in an archive, and the program says of which commit it is all the same.
#[tokio::test]
async fn an_archive_of_the_sources_says_of_which_commit_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shell = |script: &str| Program::new("/bin/sh").args(["-c", script]).dir(root);
    let archived = shell("git archive HEAD .commit | tar -xO").output(SOON).await.success();
    let head = shell("git rev-parse HEAD").output(SOON).await.success();
    assert_eq!(archived, head, ".gitattributes has to say so");
}
