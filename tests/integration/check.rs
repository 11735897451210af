//! What `ssegate check` finds is what `ssegate run` would end with, and the other way round.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Pem, Program, SOON, free_port};

const ROUTE: &str = "routes: [{ path: /events, events: { channels: [news] } }]\n";
const REDIS: &str = "redis: { url: \"redis://127.0.0.1:1\" }\nadmin: off\n";

async fn ssegate(command: &str, dir: &Path) -> (i32, String) {
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args([command]).dir(dir);
    let program = program.env("HOME", dir).env_remove("XDG_STATE_HOME");
    let output = program.output(SOON).await;
    (output.code(), format!("{}\n{}", output.stdout, output.stderr))
}

/// Both end with 64 and say `words` of `key`.
async fn both_refuse(dir: &Path, yaml: &str, key: &str, words: &str) {
    std::fs::write(dir.join("gateway.yaml"), yaml).unwrap();
    for command in ["check", "run"] {
        let (code, said) = ssegate(command, dir).await;
        assert_eq!(code, 64, "{command} of\n{yaml}{said}");
        let line = said.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{command} does not say {words:?}: {said}"));
        assert!(line.starts_with(&format!("{key}: ")), "{line}");
        assert!(line.contains("(gateway.yaml:"), "{line}");
    }
}

fn listener(certificate: &Path, key: &Path) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        "listeners:\n  - address: 127.0.0.1:0\n    tls:\n      certificate: {certificate}\n      \
         key: {key}\n{REDIS}{ROUTE}"
    )
}

fn openssl(dir: &Path, arguments: &str) {
    let mut openssl = Command::new("/usr/bin/openssl");
    let done = openssl.args(arguments.split_whitespace()).current_dir(dir).output();
    let done = done.expect("missing: apt-get install openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn certificates_and_keys_of_every_wrong_kind_are_named_with_the_mend() {
    const CERTIFICATE: &str = "listeners[0].tls.certificate";
    const KEY: &str = "listeners[0].tls.key";
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let pem = Pem::write(dir);
    let other = TempDir::new().unwrap();
    let other = Pem::write(other.path());
    openssl(dir, "x509 -in cert.pem -outform der -out cert.der");
    openssl(dir, "pkey -in key.pem -outform der -out key.der");
    openssl(dir, "pkcs8 -in key.pem -topk8 -v2 aes-128-cbc -passout pass:x -out encrypted.pem");
    openssl(dir, "ec -in key.pem -aes128 -passout pass:x -out old.pem");
    openssl(dir, "pkcs12 -export -in cert.pem -inkey key.pem -passout pass:x -out both.p12");
    openssl(dir, "genpkey -algorithm ed448 -out ed448.pem");
    openssl(dir, "req -new -key key.pem -subj /CN=localhost -out request.pem");
    openssl(dir, "x509 -req -in request.pem -signkey key.pem -out version1.pem");
    std::fs::write(dir.join("empty.pem"), "").unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap();
    let chain = [read(&pem.authority), read(&pem.certificate)].concat();
    std::fs::write(dir.join("chain.pem"), chain).unwrap();
    let name = |name: &str| dir.join(name);

    let table = [
        (pem.certificate.clone(), other.key.clone(), KEY, "the key belongs to another certificate"),
        (pem.key.clone(), pem.certificate.clone(), CERTIFICATE, "are certificate and key swapped?"),
        (pem.certificate.clone(), pem.certificate.clone(), KEY, "swapped?"),
        (
            name("cert.der"),
            pem.key.clone(),
            CERTIFICATE,
            "it is DER, convert it: openssl x509 -inform der",
        ),
        (
            pem.certificate.clone(),
            name("key.der"),
            KEY,
            "it is DER, convert it: openssl pkey -inform der",
        ),
        (pem.certificate.clone(), name("encrypted.pem"), KEY, "the private key is encrypted"),
        (pem.certificate.clone(), name("old.pem"), KEY, "the private key is encrypted"),
        (name("both.p12"), pem.key.clone(), CERTIFICATE, "openssl pkcs12 -in"),
        (pem.certificate.clone(), name("both.p12"), KEY, "it is PKCS#12"),
        (pem.certificate.clone(), name("ed448.pem"), KEY, "cannot be used"),
        (name("chain.pem"), pem.key.clone(), KEY, "belongs to certificate number 2 in the file"),
        (name("version1.pem"), pem.key.clone(), CERTIFICATE, "it is X.509 version 1: make one"),
        (name("empty.pem"), pem.key.clone(), CERTIFICATE, "no certificate found in"),
        (pem.certificate.clone(), name("empty.pem"), KEY, "no private key found in"),
        (name("none.pem"), pem.key.clone(), CERTIFICATE, "no such file"),
    ];
    for (certificate, key, place, words) in table {
        both_refuse(dir, &listener(&certificate, &key), place, words).await;
    }
    std::fs::write(dir.join("gateway.yaml"), listener(&pem.certificate, &pem.key)).unwrap();
    assert_eq!(ssegate("check", dir).await.0, 0);
}

#[tokio::test]
async fn an_upstream_that_is_the_gateway_itself_is_refused() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let yaml = |listener: &str, upstream: &str| {
        format!(
            "listeners: [{{ address: \"{listener}:{port}\" }}]\nadmin: off\n\
             redis: {{ url: \"embedded://127.0.0.1:{}\" }}\n\
             routes:\n  - path: /{{*rest}}\n    proxy: {{ upstream: \"http://{upstream}\" }}\n",
            port + 1
        )
    };
    let key = "routes[0].proxy.upstream";
    for (listener, upstream) in [
        ("127.0.0.1", format!("127.0.0.1:{port}")),
        ("127.0.0.1", format!("localhost:{port}")),
        ("0.0.0.0", format!("127.0.0.1:{port}")),
        ("[::]", format!("127.0.0.1:{port}")),
        ("127.0.0.1", format!("127.1:{port}")),
        ("127.0.0.1", format!("2130706433:{port}")),
        ("127.0.0.1", format!("0x7f.1:{port}")),
        ("0.0.0.0", format!("app.localhost:{port}")),
    ] {
        both_refuse(dir.path(), &yaml(listener, &upstream), key, "this gateway itself").await;
    }
    let bus = format!("127.0.0.1:{}", port + 1);
    both_refuse(dir.path(), &yaml("127.0.0.1", &bus), key, "is the embedded bus (redis.url)").await;
}

#[tokio::test]
async fn a_route_to_the_admin_listener_is_a_warning() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: \"127.0.0.1:{port}\" }}\n\
         redis: {{ url: \"redis://127.0.0.1:1\" }}\n\
         routes:\n  - path: /metrics\n    proxy: {{ upstream: \"http://127.1:{port}\" }}\n"
    );
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    let (code, said) = ssegate("check", dir.path()).await;
    assert_eq!(code, 0, "{said}");
    let warning = format!("routes[0].proxy.upstream: http://127.1:{port} is the admin listener");
    assert!(said.contains(&warning), "{said}");
    assert!(said.contains("everybody who may reach /metrics"), "{said}");
}

#[tokio::test]
async fn a_redis_that_is_the_gateway_itself_is_refused() {
    let dir = TempDir::new().unwrap();
    let (port, admin) = (free_port(), free_port());
    for (redis, by) in [(port, "listeners[0].address"), (admin, "admin.address")] {
        let yaml = format!(
            "listeners: [{{ address: \"127.0.0.1:{port}\" }}]\n\
             admin: {{ address: \"127.0.0.1:{admin}\" }}\n\
             redis: {{ url: \"redis://:secret@localhost:{redis}/0\" }}\n{ROUTE}"
        );
        let words = format!("is this gateway itself ({by})");
        both_refuse(dir.path(), &yaml, "redis.url", &words).await;
    }
}

#[tokio::test]
async fn every_address_of_ipv6_leaves_those_of_ipv4_to_a_listener_of_their_own() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let yaml = format!(
        "listeners: [{{ address: \"[::]:{port}\" }}, {{ address: \"0.0.0.0:{port}\" }}]\n{REDIS}{ROUTE}"
    );
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    let (code, said) = ssegate("check", dir.path()).await;
    assert_eq!(code, 0, "{said}");
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["run"]).dir(dir.path());
    let gateway = crate::support::Gateway::wait_for(program, dir).await;
    for host in ["127.0.0.1", "::1"] {
        let socket = tokio::net::TcpStream::connect((host, port)).await;
        assert!(socket.is_ok(), "{host}: {socket:?}");
    }
    assert_eq!(gateway.said("listening").count(), 2);
}

#[tokio::test]
async fn a_local_certificate_that_cannot_be_kept_is_found_before_the_start() {
    let dir = TempDir::new().unwrap();
    let yaml = format!(
        "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ self_signed: true }} }}]\n{REDIS}{ROUTE}"
    );
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    std::fs::write(dir.path().join("file"), "no folder").unwrap();
    for (state, words) in
        [("/proc/1", "cannot write the self-signed certificate"), ("", "no state directory")]
    {
        for command in ["check", "run"] {
            let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args([command]);
            let program = program.env_remove("HOME").env_remove("XDG_STATE_HOME");
            let program = program.env("STATE_DIRECTORY", state).dir(dir.path());
            let output = program.output(SOON).await;
            assert_eq!(output.code(), 64, "{command}: {output:?}");
            assert!(output.stderr.contains(words), "{command}: {output:?}");
        }
    }
}

#[tokio::test]
async fn who_asks_a_gateway_need_not_be_allowed_to_read_its_key() {
    let dir = TempDir::new().unwrap();
    let nowhere = dir.path().join("secret.pem");
    std::fs::write(dir.path().join("gateway.yaml"), listener(&nowhere, &nowhere)).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["pub", "news", "hello"]);
    let output = program.dir(dir.path()).output(SOON).await;
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("cannot connect to 127.0.0.1:1"), "{output:?}");
}

#[tokio::test]
async fn who_asks_a_gateway_needs_none_of_its_secrets() {
    let dir = TempDir::new().unwrap();
    let yaml = "listeners: [{ address: 127.0.0.1:0 }]\nredis: { url: \"redis://127.0.0.1:1\" }\nadmin: off\n\
        auth: { any: [{ jwt: { keys: \"${JWT_KEY}\", algorithms: HS256 } }, { signed_url: { keys: { k1: \"base64:${URL_KEY:?set it}\" } } }] }\n\
        revocation: { control_channel: \"ssegate:revoke\", key: \"${REVOCATION_KEY}\" }\n\
        routes:\n\
        - { path: /mine, events: { channels: [\"user:{auth.id}\"] } }\n\
        - { path: /cron, events: { channels: [cron] }, auth: { tokens: [{ name: cron, sha256: \"${HASH}\" }] } }\n\
        - { path: /app, proxy: { upstream: \"http://127.0.0.1:2\" }, handover: { key: \"${GRIP_KEY}\" } }\n";
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    for (arguments, code, words) in [
        (&["pub", "user:1", "hello"][..], 1, "cannot connect to 127.0.0.1:1"),
        (&["revoke", "--sub", "1"], 64, "the variable REVOCATION_KEY is not set"),
        (&["check"], 64, "the variable JWT_KEY is not set"),
        (&["run"], 64, "the variable GRIP_KEY is not set"),
    ] {
        let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(arguments.iter().copied());
        let output = program.dir(dir.path()).output(SOON).await;
        assert_eq!(output.code(), code, "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(words), "{arguments:?}: {output:?}");
    }
    // What it uses has to be there.
    std::fs::write(dir.path().join("gateway.yaml"), yaml.replace("redis://127", "${REDIS}"))
        .unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["pub", "news", "hello"]);
    let output = program.dir(dir.path()).output(SOON).await;
    assert_eq!(output.code(), 64, "{output:?}");
    assert!(output.stderr.contains("the variable REDIS is not set"), "{output:?}");
    assert_eq!(output.stderr.matches("is not set").count(), 1, "{output:?}");
}

#[tokio::test]
async fn check_warns_of_auth_that_lets_in_more_than_is_meant() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let yaml = "listeners: [{ address: 127.0.0.1:0 }]\nredis: { url: \"redis://127.0.0.1:1\" }\nadmin: off\n\
        routes:\n\
        - { path: /mine, events: { channels: [\"user:{auth.id}\"] }, auth: { jwt: { keys: hunter2, algorithms: HS256 } } }\n\
        - { path: \"/events/{channel}\", events: { channels: [\"{channel}\"] } }\n";
    let file = dir.path().join("gateway.yaml");
    std::fs::write(&file, yaml).unwrap();
    let warnings = async |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = ssegate("check", dir.path()).await;
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        let lines = said.lines().filter_map(|line| line.strip_prefix("ssegate: warning: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let own = warnings(0o600).await;
    assert_eq!(own.len(), 2, "{own:?}");
    assert!(own[0].starts_with("routes[1] (/events/{channel}): events.channels: "), "{own:?}");
    assert!(own[1].starts_with("routes[0] (/mine): auth.jwt.keys: a secret is shorter"), "{own:?}");
    for mode in [0o640, 0o604] {
        let others = warnings(mode).await;
        let secret = "routes[0].auth.jwt.keys: the secret stands in gateway.yaml";
        assert!(others.len() == 3 && others[2].starts_with(secret), "{others:?}");
        assert!(others[2].contains("chmod 600 gateway.yaml"), "{others:?}");
    }
}
