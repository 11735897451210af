//! Addresses and certificates.

use insta::assert_snapshot;

use super::{mistakes, settings, with};
use crate::config::load;
use crate::server::{CertificateFiles, TlsSettings};

/// A file that is valid if the `tls` of its listener is.
fn with_tls(tls: &str) -> String {
    with("").replace("address: 127.0.0.1:80", &format!("{{address: 127.0.0.1:80, tls: {tls}}}"))
}

#[test]
fn tls_has_one_certificate_or_a_list_of_them() {
    const NONE: &str = "tls: no certificate; set self_signed: true, or certificate and key";
    for (tls, expected) in [
        ("", NONE),
        ("{}", NONE),
        ("{self_signed: false}", NONE),
        (
            "{self_signed: true, key: Cargo.toml}",
            "tls: self_signed: true excludes certificate and key; use one or the other",
        ),
        (
            "{certificate: Cargo.toml}",
            "tls.key: missing; set the path of this certificate's private key",
        ),
        ("{key: Cargo.toml}", "tls.certificate: missing; set the path of this key's certificate"),
        ("{key: Cargo.toml, certificate: c.pem}", "tls.certificate: no such file: c.pem"),
        ("{key: src, certificate: Cargo.toml}", "tls.key: not a file: src"),
        (
            "{self_signed: true, certificates: [{certificate: c.pem, key: k.pem}]}",
            "tls: self_signed: true excludes certificates; use one or the other",
        ),
        (
            "{certificates: [{certificate: c.pem, key: k.pem}], key: k.pem}",
            "tls: certificates excludes certificate and key; put them first into the list",
        ),
        (
            "{certificates: []}",
            "tls.certificates: the list is empty; add a mapping with certificate and key",
        ),
        (
            "{certificates: [{certificate: Cargo.toml}]}",
            "tls.certificates[0].key: missing; set the path of this certificate's private key",
        ),
        (
            "{certificates: [{certificate: c.pem, key: Cargo.toml}]}",
            "tls.certificates[0].certificate: no such file: c.pem",
        ),
    ] {
        let report = mistakes(&with_tls(tls));
        assert!(report.starts_with(&format!("listeners[0].{expected} (")), "{tls}: {report}");
        assert_eq!(report.lines().count(), 1, "{report}");
    }
}

#[test]
fn relative_paths_start_at_the_directory_of_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.yaml");
    let write = |name, text: &str| std::fs::write(path.with_file_name(name), text);
    write("gateway.yaml", &with_tls("{certificate: c.pem, key: k.pem}")).expect("written");
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
    write("c.pem", &made.cert.pem()).expect("written");

    let report = load(&path).expect_err("the key is missing").to_string();
    let key = path.with_file_name("k.pem");
    let expected = format!("listeners[0].tls.key: no such file: {} (", key.display());
    assert!(report.starts_with(&expected), "{report}");

    write("k.pem", "").expect("written");
    let report = load(&path).expect_err("the key is empty").to_string();
    assert!(report.starts_with("listeners[0].tls.key: no private key found in "), "{report}");

    write("k.pem", &made.signing_key.serialize_pem()).expect("written");
    let certificate = path.with_file_name("c.pem");
    let settings = load(&path).expect("valid");
    let one = CertificateFiles { certificate, key };
    assert_eq!(settings.listeners[0].tls, Some(TlsSettings::Files(vec![one.clone()])));

    // In a list, each with its key, and each once.
    let other = rcgen::generate_simple_self_signed(["other.example".into()]).expect("made");
    write("d.pem", &other.cert.pem()).expect("written");
    write("l.pem", &other.signing_key.serialize_pem()).expect("written");
    let list =
        |items: &str| write("gateway.yaml", &with_tls(&format!("{{certificates: [{items}]}}")));
    list("{certificate: c.pem, key: k.pem}, {certificate: d.pem, key: l.pem}").expect("written");
    let settings = load(&path).expect("valid");
    let [certificate, key] = ["d.pem", "l.pem"].map(|name| path.with_file_name(name));
    let two = vec![one, CertificateFiles { certificate, key }];
    assert_eq!(settings.listeners[0].tls, Some(TlsSettings::Files(two)));
    list(
        "{certificate: c.pem, key: l.pem}, {certificate: d.pem, key: l.pem}, {certificate: d.pem, key: l.pem}",
    )
    .expect("written");
    let report = load(&path).expect_err("two mistakes").to_string();
    let [mismatch, twice] = report.lines().collect::<Vec<_>>()[..] else { panic!("{report}") };
    assert!(mismatch.starts_with("listeners[0].tls.certificates[0].key: "), "{report}");
    assert!(mismatch.contains("do not match: the key belongs to another certificate"), "{report}");
    let expected =
        "listeners[0].tls.certificates[2].certificate: it is already in the list; remove one (";
    assert!(twice.starts_with(expected), "{report}");
}

#[test]
fn an_address_can_be_used_once() {
    let text = r#"
listeners:
- address: 0.0.0.0:80
- address: 127.0.0.1:80
- address: 0.0.0.0:80
- address: 127.0.0.1:9464
- address: 127.0.0.1:0
- address: 127.0.0.1:0
redis: {url: "embedded://127.0.0.1:80"}
routes: [{path: /, proxy: {upstream: http://b}}]
"#;
    assert_snapshot!(mistakes(text), @"
    admin.address: 127.0.0.1:9464 is already in use by listeners[3].address (gateway.yaml)
    listeners[1].address: 127.0.0.1:80 is already in use by listeners[0].address (0.0.0.0:80) (gateway.yaml:4:12)
    listeners[2].address: 0.0.0.0:80 is already in use by listeners[0].address (gateway.yaml:5:12)
    redis.url: 127.0.0.1:80 is already in use by listeners[0].address (0.0.0.0:80) (gateway.yaml:9:14)
    ");
}

#[test]
fn the_admin_listener_is_on_by_default() {
    for (admin, expected) in [
        ("", Some("127.0.0.1:9464")),
        ("admin:", Some("127.0.0.1:9464")),
        ("admin: {hosts: [ssegate]}", Some("127.0.0.1:9464")),
        ("admin: {address: 127.0.0.1:1}", Some("127.0.0.1:1")),
        ("admin: off", None),
        ("admin: false", None),
        ("admin: ${ADMIN:-off}", None),
    ] {
        let admin = settings(&with(admin)).admin;
        assert_eq!(admin.map(|admin| admin.address.to_string()).as_deref(), expected);
    }
    assert_snapshot!(mistakes(&with("admin: on")), @r#"
    admin: expected a mapping or off; this is "on" (gateway.yaml:6:8)
    "#);
}
