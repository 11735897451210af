use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

use super::{Certificate, local};
use crate::server::tls_error::TlsError;

const DAY: Duration = Duration::from_secs(86_400);

/// Writes a certificate valid between two days relative to now, and its key, into `directory`.
fn make(directory: &Path, from: i64, to: i64) -> (PathBuf, PathBuf) {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    (params.not_before, params.not_after) =
        (now + time::Duration::days(from), now + time::Duration::days(to));
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("signed").pem();
    let (certificate, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&certificate, pem).expect("written");
    fs::write(&key_file, key.serialize_pem()).expect("written");
    (certificate, key_file)
}

/// Writes a self-signed certificate that expires in `days`, and its key.
fn make_local(directory: &Path, days: i64) -> (PathBuf, PathBuf) {
    let (made, made_key) = make(directory, -800, days);
    let (certificate, key) = (directory.join("local.crt"), directory.join("local.key"));
    fs::rename(made, &certificate).expect("renamed");
    fs::rename(made_key, &key).expect("renamed");
    (certificate, key)
}

fn presented(certificate: &Certificate) -> Vec<u8> {
    certificate.current().key.cert[0].to_vec()
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = local::ensure_in(directory.path()).expect("made");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "").expect("written");

    let message = |result: Result<Certificate, TlsError>| result.expect_err("refused").to_string();
    let missing = directory.path().join("missing.pem");
    assert!(message(Certificate::open(&missing, &key)).starts_with("cannot read"));
    assert!(message(Certificate::open(&empty, &key)).starts_with("no certificate found in"));
    assert!(
        message(Certificate::open(&certificate, &empty)).starts_with("no private key found in")
    );

    let other = directory.path().join("other");
    let (other_certificate, other_key) = local::ensure_in(&other).expect("made");
    let mismatch = message(Certificate::open(&certificate, &other_key));
    assert!(mismatch.ends_with(" do not match: the key belongs to another certificate"));

    let chain = [&other_certificate, &certificate].map(|file| fs::read(file).expect("read"));
    let reversed = directory.path().join("chain.pem");
    fs::write(&reversed, chain.concat()).expect("written");
    let mismatch = message(Certificate::open(&reversed, &key));
    assert!(mismatch.contains("certificate number 2 in the file"), "{mismatch}");
}

#[test]
fn changed_files_are_reloaded_and_unusable_ones_are_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = local::ensure_in(directory.path()).expect("made");
    let opened = Certificate::open(&certificate, &key).expect("it can be used");
    let (first, now) = (presented(&opened), SystemTime::now());
    assert!(!opened.reload(now).expect("nothing changed"));

    fs::write(&certificate, "no certificate").expect("written");
    assert!(opened.reload(now).is_err());
    assert!(!opened.reload(now).expect("reported once"));
    assert_eq!(presented(&opened), first);
    let problem = opened.problem(now).expect("still unusable");
    assert!(problem.ends_with("; the previous certificate stays in use"), "{problem}");

    let (other, other_key) = local::ensure_in(&directory.path().join("other")).expect("made");
    fs::copy(other, &certificate).expect("copied");
    fs::copy(other_key, &key).expect("copied");
    assert!(opened.reload(now).expect("it can be used"));
    assert_ne!(presented(&opened), first);
    assert_eq!(opened.problem(now), None);
}

#[test]
fn a_file_read_half_written_is_read_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = local::ensure_in(directory.path()).expect("made");
    let opened = Certificate::open(&certificate, &key).expect("it can be used");
    let whole = fs::read(&certificate).expect("read");
    let now = SystemTime::now();
    let write = |bytes: &[u8]| {
        fs::write(&certificate, bytes).expect("written");
        let file = fs::File::options().write(true).open(&certificate).expect("opened");
        file.set_modified(now + Duration::from_secs(1)).expect("a time");
    };

    // Length and modification time are those of the complete file.
    write(&vec![b'\n'; whole.len()]);
    assert!(opened.reload(now).is_err());
    assert!(!opened.reload(now).expect("reported once"));
    write(&whole);
    assert!(opened.reload(now).expect("it can be used"));
}

#[test]
fn an_expired_or_future_certificate_never_replaces_a_valid_one() {
    for (from, to, words) in [(-90, -3, "it expired on "), (3, 90, "it is not valid before ")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = make(directory.path(), -1, 60);
        let opened = Certificate::open(&certificate, &key).expect("it can be used");
        let (first, now) = (presented(&opened), SystemTime::now());
        make(directory.path(), from, to);
        let error = opened.reload(now).expect_err("it is not valid").to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(presented(&opened), first);
        assert!(opened.problem(now).is_some_and(|problem| problem.contains(words)));

        // A configuration reload opens the same files, with the same result.
        let again = Certificate::open(&certificate, &key).expect("it can be read");
        assert!(opened.replace_with(again, now).is_err());
        assert_eq!(presented(&opened), first);
        assert!(!opened.reload(now).expect("already reported"));

        // A future certificate becomes valid as time passes, without a change of the file.
        let is_reloaded = opened.reload(now + 4 * DAY).expect("already reported if expired");
        assert_eq!(is_reloaded, from > 0);
        make(directory.path(), -1, 90);
        assert!(opened.reload(now).expect("it is valid"));
        assert_eq!(opened.problem(now), None);
    }
}

#[test]
fn an_expired_certificate_is_replaced_by_another_expired_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = make(directory.path(), -90, -3);
    let opened = Certificate::open(&certificate, &key).expect("opened, though expired");
    let (first, now) = (presented(&opened), SystemTime::now());
    let problem = opened.problem(now).expect("it has expired");
    assert!(problem.starts_with("it expired on ") && problem.contains("3 days ago"), "{problem}");
    make(directory.path(), -90, -1);
    assert!(opened.reload(now).expect("reloaded"));
    assert_ne!(presented(&opened), first);
}

#[test]
fn a_local_certificate_that_cannot_be_renewed_is_reported_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = make_local(directory.path(), 10);
    let ours = Certificate::open_local(&certificate, &key).expect("it can be used");
    let (first, now) = (presented(&ours), SystemTime::now());
    // A directory where the temporary file would be written blocks the renewal, even for root.
    let in_the_way = certificate.with_extension(format!("{}.tmp", std::process::id()));
    fs::create_dir(&in_the_way).expect("made");

    let error = ours.reload(now).expect_err("it cannot be written").to_string();
    assert!(error.starts_with("cannot write the self-signed certificate to"), "{error}");
    for _ in 0..3 {
        assert!(!ours.reload(now).expect("already reported"));
        let problem = ours.problem(now).expect("still not renewed");
        assert!(problem.contains("it expires on") && problem.contains(&error), "{problem}");
    }
    assert_eq!(presented(&ours), first);

    fs::remove_dir(&in_the_way).expect("removed");
    assert!(ours.reload(now).expect("renewed"));
    assert_ne!(presented(&ours), first);
    assert_eq!(ours.problem(now), None);
}

#[test]
fn a_start_uses_a_valid_local_certificate_that_cannot_be_renewed() {
    for (days, is_taken) in [(10, true), (-1, false)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, _key) = make_local(directory.path(), days);
        let in_the_way = certificate.with_extension(format!("{}.tmp", std::process::id()));
        fs::create_dir(&in_the_way).expect("made");
        let now = SystemTime::now();
        let opened = local::open_in(directory.path(), now);
        assert_eq!(opened.is_ok(), is_taken, "{opened:?}");
        let Ok(opened) = opened else { continue };
        let first = presented(&opened);
        assert!(opened.reload(now).is_err(), "retried and reported");
        fs::remove_dir(&in_the_way).expect("removed");
        assert!(opened.reload(now).expect("renewed"));
        assert_ne!(presented(&opened), first);
    }
}

#[test]
fn a_local_certificate_is_renewed_before_it_expires() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = make_local(directory.path(), 10);
    let now = SystemTime::now();
    let theirs = Certificate::open(&certificate, &key).expect("it can be used");
    assert!(!theirs.reload(now).expect("not ours to renew"));
    let ours = Certificate::open_local(&certificate, &key).expect("it can be used");
    assert!(ours.reload(now).expect("renewed"));
    assert_eq!(ours.problem(now), None);
}
