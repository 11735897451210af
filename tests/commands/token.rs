//! `ssegate token`: what it mints is accepted, what it shows is not taken for verified, and it tells no secret.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::SystemTime;

use ssegate_auth::Identity;
use ssegate_auth::jwt::{self, Algorithm, JwtSettings, Key, KeySet};
use tempfile::TempDir;

use super::{run, ssegate, stderr, stdout};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A directory with this secret in the file `key`.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("key"), format!("{SECRET}\n")).unwrap();
    directory
}

fn run_in(directory: &TempDir, arguments: &[&str]) -> Output {
    ssegate(arguments, directory).output().unwrap()
}

fn verified(token: &str, key: Key, algorithm: Algorithm) -> Identity {
    let keys: KeySet = [key].into_iter().collect();
    let settings = JwtSettings { algorithms: vec![algorithm], ..JwtSettings::default() };
    jwt::verify(token, &keys, &settings, SystemTime::now()).expect("it is good")
}

#[test]
fn a_token_stands_alone_on_stdout_and_is_good() {
    let directory = directory();
    let minted = run_in(
        &directory,
        &["token", "--key", "@key", "--sub", "42", "--expires", "10m", "--claim", "org=7"],
    );
    assert_eq!((minted.status.code(), stderr(&minted)), (Some(0), ""));
    let token = stdout(&minted).strip_suffix('\n').unwrap();
    assert_eq!(token.lines().count(), 1);
    let identity = verified(token, Key::from_secret(SECRET.as_bytes()), Algorithm::HS256);
    assert_eq!((identity.id.as_deref(), identity.claim("org").as_deref()), (Some("42"), Some("7")));
    let lifetime = identity.expires.unwrap().duration_since(identity.issued.unwrap()).unwrap();
    assert_eq!(lifetime.as_secs(), 600);

    // The variable instead, as a secret and as a file; the option overrides it.
    for (variable, option) in [(SECRET, None), ("@key", None), ("x", Some("--key=@key"))] {
        let arguments: Vec<&str> = ["token"].into_iter().chain(option).collect();
        let minted = ssegate(&arguments, &directory).env("SSEGATE_TOKEN_KEY", variable).output();
        let minted = minted.unwrap();
        let token = stdout(&minted).trim_end();
        verified(token, Key::from_secret(SECRET.as_bytes()), Algorithm::HS256);
    }
}

#[test]
fn a_private_key_signs_and_its_public_key_verifies() {
    let directory = directory();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("private.pem", &pair.serialize_pem());
    write("public.pem", &pair.public_key_pem());
    let minted = run_in(&directory, &["token", "--key", "@private.pem", "--kid", "k1"]);
    let token = stdout(&minted).trim_end();
    assert_eq!(stderr(&minted), "");
    verified(token, Key::from_pem(&pair.public_key_pem()).unwrap(), Algorithm::ES384);

    let shown = run_in(&directory, &["token", "--inspect", token, "--key", "@public.pem"]);
    assert_eq!((shown.status.code(), stderr(&shown)), (Some(0), ""));
    let expected = r#"header {
  "alg": "ES384",
  "kid": "k1",
  "typ": "JWT"
}
claims {
"#;
    assert!(stdout(&shown).starts_with(expected), "{}", stdout(&shown));
    assert!(stdout(&shown).ends_with("signature good\n"), "{}", stdout(&shown));

    for (arguments, said) in [
        (
            &["token", "--key", "@public.pem"][..],
            "--key: it is a public key; tokens are signed with its private key",
        ),
        (
            &["token", "--inspect", token, "--key", "@private.pem"],
            "--key: it is a private key; give its public key",
        ),
        (
            &["token", "--key", "@private.pem", "--alg", "HS256"],
            "--alg: a key of this kind does not sign with HS256; use ES384",
        ),
    ] {
        let output = run_in(&directory, arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(64), ""), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn a_token_is_shown_from_anywhere_and_says_that_it_was_not_checked() {
    let directory = directory();
    let minted =
        run_in(&directory, &["token", "--key", "@key", "--sub", "42", "--audience", "events"]);
    let token = stdout(&minted).trim_end().to_owned();
    std::fs::write(directory.path().join("token"), &token).unwrap();
    let from_stdin = |arguments: &[&str], text: &str| {
        let mut child = ssegate(arguments, &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    for shown in [
        run_in(&directory, &["token", "--inspect", &token]),
        run_in(&directory, &["token", "--inspect", "@token"]),
        from_stdin(&["token", "--inspect"], &format!("Bearer {token}\n")),
        from_stdin(&["token", "--inspect", "-"], &token),
    ] {
        assert_eq!((shown.status.code(), stderr(&shown)), (Some(0), ""));
        let text = stdout(&shown);
        assert!(text.contains("\"sub\": \"42\"") && text.contains("in 60 minutes\n"), "{text}");
        assert!(text.contains("signature NOT CHECKED"), "{text}");
    }
    let checked = run_in(&directory, &["token", "--inspect", &token, "--key", "@key"]);
    assert!(stdout(&checked).ends_with("signature good\n"), "{}", stdout(&checked));
    assert_eq!(checked.status.code(), Some(0));
}

#[test]
fn a_token_that_is_not_good_is_shown_and_ends_with_1() {
    let directory = directory();
    let mint = |more: &[&str]| {
        let arguments: Vec<&str> = ["token", "--key", "@key"].iter().chain(more).copied().collect();
        stdout(&run_in(&directory, &arguments)).trim_end().to_owned()
    };
    let late = mint(&["--claim", "exp=1000000000"]);
    let early = mint(&["--claim", "nbf=4000000000"]);
    let good = mint(&[]);
    let other = "--key=another secret of the same length as it";
    for (token, key, said, shown) in [
        (&late, "--key=@key", "the token is refused: the credential expired ", "signature good\n"),
        (
            &early,
            "--key=@key",
            "the token is refused: the credential is not valid yet",
            "signature good\n",
        ),
        (&good, other, "the token is refused: the signature does not verify", "signature NOT GOOD"),
    ] {
        let output = run_in(&directory, &["token", "--inspect", token, key]);
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(stdout(&output).contains(shown), "{}", stdout(&output));
    }
    let output = run(&["token", "--inspect", "e30.e30"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    assert_eq!(
        stderr(&output),
        "ssegate: it is not a token that can be read: malformed credential: not a JWT\n"
    );
}

#[test]
fn a_key_set_verifies() {
    let directory = TempDir::new().unwrap();
    let tokens = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/auth/tests/pyjwt/tokens.json");
    let tokens: serde_json::Value =
        serde_json::from_slice(&std::fs::read(tokens).unwrap()).unwrap();
    std::fs::write(directory.path().join("jwks.json"), tokens["jwks"].to_string()).unwrap();
    for case in tokens["good"].as_array().unwrap() {
        let Some(token) = case["kid"].as_str() else { continue };
        let output = run_in(&directory, &["token", "--inspect", token, "--jwks", "jwks.json"]);
        // Their times are of 2027: this is about the signature.
        assert!(stdout(&output).ends_with("signature good\n"), "{}", stdout(&output));
    }
    let output = run_in(&directory, &["token", "--inspect", "a.b.c", "--jwks", "missing.json"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).starts_with("ssegate: --jwks missing.json: No such file"));
}

#[test]
fn a_configuration_judges_the_audience() {
    let directory = TempDir::new().unwrap();
    let yaml = "redis: {url: redis://r}\nlisteners: [address: 127.0.0.1:80]\nadmin: off\n\
        auth: {jwt: {keys: \"${JWT_KEY}\", algorithms: HS256, audience: events}}\nroutes:\n\
        - {path: /mine, events: {channels: [\"{auth.id}\"]}}\n";
    std::fs::write(directory.path().join("gateway.yaml"), yaml).unwrap();
    let key = "0123456789abcdef0123456789abcdef";
    for (audience, code, line) in [
        ("events", 0, "aud good for /mine\n"),
        ("billing", 1, "aud NOT GOOD for /mine, which takes aud events\n"),
    ] {
        let minted = run(&["token", "--key", key, "--audience", audience]);
        let token = stdout(&minted).trim().to_owned();
        let inspect = ["token", "--inspect", &token, "--key", key];
        let output = run_in(&directory, &[&inspect[..], &["-c", "gateway.yaml"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stdout(&output).ends_with(&format!("signature good\n{line}")), "{output:?}");
        // The file in the directory is not meant.
        let output = run_in(&directory, &inspect);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).ends_with("signature good\n"), "{output:?}");
    }
    let output = run_in(&directory, &["token", "--key", key, "-c", "gateway.yaml"]);
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn a_mistake_names_the_option_and_repeats_no_secret() {
    let short = run(&["token", "--key", "hunter2", "--sub", "42"]);
    assert_eq!(short.status.code(), Some(0));
    assert!(stderr(&short).starts_with("ssegate: warning: the secret is shorter than the hash"));
    assert!(!stderr(&short).contains("hunter2"));
    for (arguments, said) in [
        (&["token"][..], "give the key that signs: --key @FILE, or the variable SSEGATE_TOKEN_KEY"),
        (&["token", "--key", "@hunter2"], "--key: cannot read the file after @: No such file"),
        (&["token", "--key", ""], "--key: it is empty"),
        (
            &["token", "--key", "hunter2", "--claim", "sub=1", "--sub", "2"],
            "the claim sub is given twice",
        ),
        (&["token", "--key", "hunter2", "--claim", "sub"], "use forms like org=7"),
        (&["token", "--key", "hunter2", "--alg", "none"], "use HS256"),
        (
            &["token", "--key", "hunter2", "--alg", "RS256"],
            "does not sign with RS256; use HS256, HS384 or HS512",
        ),
        (&["token", "--key", "hunter2", "--expires", "tomorrow"], "use forms like"),
        (&["token", "--inspect", "a.b.c", "--sub", "42"], "cannot be used with"),
        (&["token", "--jwks", "x"], "--inspect"),
        (&["token", "--inspect", "hunter2 hunter2"], "--inspect: it is not a token"),
    ] {
        let output = run(arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(64), ""), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
}
