use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls::SignatureScheme;
use tempfile::TempDir;
use time::OffsetDateTime;

use super::{CertificateSet, conflicts};
use crate::server::certificate::Certificate;

/// Writes `NAME.pem` and `NAME.key`: a certificate for these hosts that ends in so many days.
fn write(
    directory: &Path,
    name: &str,
    hosts: &[&str],
    days: i64,
    is_ed25519: bool,
) -> [PathBuf; 2] {
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    let now = OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(90);
    params.not_after = now + time::Duration::days(days);
    let algorithm = if is_ed25519 { &PKCS_ED25519 } else { &PKCS_ECDSA_P256_SHA256 };
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let pem = params.self_signed(&key).expect("signed").pem();
    let [certificate, key_file] =
        ["pem", "key"].map(|extension| directory.join(format!("{name}.{extension}")));
    fs::write(&certificate, pem).expect("written");
    fs::write(&key_file, key.serialize_pem()).expect("written");
    [certificate, key_file]
}

fn open([certificate, key]: &[PathBuf; 2]) -> Certificate {
    Certificate::open(certificate, key).expect("it can be used")
}

/// The certificate as it travels.
fn der(files: &[PathBuf; 2]) -> Vec<u8> {
    open(files).current().key.cert[0].to_vec()
}

const OFFERED: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];

/// What a client is shown that asks for a host and knows ECDSA.
fn shown(set: &CertificateSet, host: Option<&str>) -> Vec<u8> {
    set.choose(host, &OFFERED).cert[0].to_vec()
}

/// Files for two sites and a wildcard, and the set of them.
fn three(directory: &TempDir) -> ([[PathBuf; 2]; 3], CertificateSet) {
    let write = |name, hosts: &[&str]| write(directory.path(), name, hosts, 60, false);
    let files = [
        write("first", &["first.example", "www.first.example"]),
        write("wild", &["*.second.example", "second.example"]),
        write("exact", &["api.second.example"]),
    ];
    let set = CertificateSet::new(files.iter().map(open).collect()).expect("three");
    (files, set)
}

#[test]
fn a_client_is_shown_the_certificate_with_the_name_that_it_asks_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (files, set) = three(&directory);
    let [first, wild, exact] = files.each_ref().map(der);
    for (host, expected) in [
        (None, &first),
        (Some("first.example"), &first),
        (Some("WWW.First.Example"), &first),
        (Some("second.example"), &wild),
        (Some("www.second.example"), &wild),
        (Some("www.second.example."), &wild),
        // The name itself comes before a wildcard, wherever they stand.
        (Some("api.second.example"), &exact),
        // A wildcard stands for one label.
        (Some("a.b.second.example"), &first),
        (Some("unknown.example"), &first),
        (Some("localhost"), &first),
        (Some("*.second.example"), &wild),
        (Some(""), &first),
    ] {
        assert_eq!(&shown(&set, host), expected, "{host:?}");
    }
    assert!(CertificateSet::new(Vec::new()).is_none());
}

#[test]
fn of_two_with_one_name_a_client_is_shown_the_one_whose_algorithm_it_knows() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ecdsa = write(directory.path(), "ecdsa", &["a.example"], 60, false);
    let ed25519 = write(directory.path(), "ed25519", &["a.example"], 60, true);
    let other = write(directory.path(), "other", &["a.example"], 60, false);
    let set = [&ecdsa, &ed25519, &other].map(open);
    let warnings = conflicts(&set);
    let set = CertificateSet::new(set.into()).expect("three");
    for (offered, expected) in [
        (SignatureScheme::ECDSA_NISTP256_SHA256, &ecdsa),
        (SignatureScheme::ED25519, &ed25519),
        // Nothing fits: the first, and the handshake fails.
        (SignatureScheme::RSA_PSS_SHA256, &ecdsa),
    ] {
        let chosen = set.choose(Some("a.example"), &[offered]);
        assert_eq!(chosen.cert[0].to_vec(), der(expected), "{offered:?}");
    }
    // Those with another algorithm do not stand in each other's way.
    let [_, _, other] = [&ecdsa, &ed25519, &other].map(|files| files[0].display());
    let expected = format!(
        "{other}: a.example is also a name of {}, which is shown in its place",
        ecdsa[0].display()
    );
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_certificate_that_is_never_used_is_reported() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let first = write(directory.path(), "first", &["192.0.2.1"], 60, false);
    let second = write(directory.path(), "second", &["192.0.2.2"], 60, false);
    let warnings = conflicts(&[open(&first), open(&second)]);
    assert_eq!(warnings.len(), 1, "the first is the default: {warnings:?}");
    assert!(warnings[0].starts_with(&second[0].display().to_string()), "{warnings:?}");
    assert!(warnings[0].contains("it is never used: it has no host name"), "{warnings:?}");
}

#[test]
fn each_is_reloaded_by_itself_with_its_new_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (files, set) = three(&directory);
    let now = SystemTime::now();
    let changed = |set: &CertificateSet| {
        let reloads = set.reload(now).into_iter();
        reloads.map(|reload| reload.result.map_err(|error| error.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(changed(&set), [Ok(false), Ok(false), Ok(false)]);
    write(directory.path(), "exact", &["new.second.example", "new.example"], 61, false);
    assert_eq!(changed(&set), [Ok(false), Ok(false), Ok(true)]);
    let [first, wild, exact] = files.each_ref().map(der);
    assert_eq!(shown(&set, Some("new.example")), exact);
    assert_eq!(shown(&set, Some("new.second.example")), exact);
    assert_eq!(shown(&set, Some("api.second.example")), wild);

    // One that cannot be used leaves itself and the others as they are.
    fs::write(&files[1][0], "no certificate").expect("written");
    let after = changed(&set);
    assert!(matches!(&after[..], [Ok(false), Err(_), Ok(false)]), "{after:?}");
    assert_eq!(shown(&set, Some("second.example")), wild);
    assert_eq!(shown(&set, None), first);
}

#[test]
fn another_configuration_adds_removes_and_moves_certificates() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (files, set) = three(&directory);
    let [first, wild, exact] = files.each_ref().map(der);
    let now = SystemTime::now();
    let new = write(directory.path(), "new", &["new.example"], 60, false);
    let results = |others: &[&[PathBuf; 2]]| {
        let reloads = set.replace_with(others.iter().map(|files| open(files)).collect(), now);
        reloads.into_iter().map(|reload| reload.result.is_ok()).collect::<Vec<_>>()
    };

    // Another order, and one more.
    assert_eq!(results(&[&files[1], &new, &files[0], &files[2]]), [true; 4]);
    assert_eq!(shown(&set, None), wild);
    assert_eq!(shown(&set, Some("first.example")), first);
    assert_eq!(shown(&set, Some("api.second.example")), exact);
    assert_eq!(shown(&set, Some("new.example")), der(&new));

    // One that has expired does not replace a valid one: neither in its files, nor in its place.
    write(directory.path(), "new", &["new.example"], -1, false);
    let expired = write(directory.path(), "expired", &["second.example"], -1, false);
    assert_eq!(results(&[&expired, &new, &files[0]]), [false, false, true]);
    assert_eq!(shown(&set, Some("second.example")), wild);
    assert_ne!(shown(&set, Some("new.example")), der(&new));
    assert_eq!(shown(&set, Some("api.second.example")), wild, "that one is not configured now");
    let paths: Vec<_> = set.all().iter().map(|certificate| certificate.path()).collect();
    assert_eq!(paths, [&expired, &new, &files[0]].map(|files| files[0].clone()));

    // One that is new in the list is taken as it is: there is nothing else for its name.
    let late = write(directory.path(), "late", &["late.example"], -1, false);
    assert_eq!(results(&[&files[1], &new, &files[0], &late]), [true, false, true, true]);
    assert_eq!(shown(&set, Some("late.example")), der(&late));
}
