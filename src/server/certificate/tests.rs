use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

use super::Certificate;
use crate::server::local_certificate;
use crate::server::tls::TlsError;

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate for these days from now on, and its key, in `directory`.
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

/// A local certificate with so many days left, and its key.
fn make_local(directory: &Path, days: i64) -> (PathBuf, PathBuf) {
    let (made, made_key) = make(directory, -800, days);
    let (certificate, key) = (directory.join("local.crt"), directory.join("local.key"));
    fs::rename(made, &certificate).expect("renamed");
    fs::rename(made_key, &key).expect("renamed");
    (certificate, key)
}

fn shown(certificate: &Certificate) -> Vec<u8> {
    certificate.shown().key.cert[0].to_vec()
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = local_certificate::keep_in(directory.path()).expect("made");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "").expect("written");

    let message = |result: Result<Certificate, TlsError>| result.expect_err("refused").to_string();
    let missing = directory.path().join("none.pem");
    assert!(message(Certificate::open(&missing, &key)).starts_with("cannot read"));
    assert!(message(Certificate::open(&empty, &key)).starts_with("no certificate in"));
    assert!(message(Certificate::open(&certificate, &empty)).starts_with("no private key in"));

    let other = directory.path().join("other");
    let (other_certificate, other_key) = local_certificate::keep_in(&other).expect("made");
    let mismatch = message(Certificate::open(&certificate, &other_key));
    assert!(mismatch.ends_with("cannot be used together: the key is another certificate's"));

    let chain = [&other_certificate, &certificate].map(|file| fs::read(file).expect("read"));
    let wrong_way_round = directory.path().join("chain.pem");
    fs::write(&wrong_way_round, chain.concat()).expect("written");
    let mismatch = message(Certificate::open(&wrong_way_round, &key));
    assert!(mismatch.contains("certificate number 2 in the file"), "{mismatch}");
}

#[test]
fn changed_files_are_shown_and_bad_ones_are_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = local_certificate::keep_in(directory.path()).expect("made");
    let opened = Certificate::open(&certificate, &key).expect("it can be used");
    let (first, now) = (shown(&opened), SystemTime::now());
    assert!(!opened.renew(now).expect("nothing changed"));

    fs::write(&certificate, "no certificate").expect("written");
    assert!(opened.renew(now).is_err());
    assert!(!opened.renew(now).expect("said once"));
    assert_eq!(shown(&opened), first);
    let problem = opened.problem(now).expect("it goes on");
    assert!(problem.ends_with("; the one before it is shown"), "{problem}");

    let (other, other_key) =
        local_certificate::keep_in(&directory.path().join("other")).expect("made");
    fs::copy(other, &certificate).expect("copied");
    fs::copy(other_key, &key).expect("copied");
    assert!(opened.renew(now).expect("it can be used"));
    assert_ne!(shown(&opened), first);
    assert_eq!(opened.problem(now), None);
}

#[test]
fn a_file_that_was_read_half_written_is_read_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = local_certificate::keep_in(directory.path()).expect("made");
    let opened = Certificate::open(&certificate, &key).expect("it can be used");
    let whole = fs::read(&certificate).expect("read");
    let now = SystemTime::now();
    let write = |bytes: &[u8]| {
        fs::write(&certificate, bytes).expect("written");
        let file = fs::File::options().write(true).open(&certificate).expect("opened");
        file.set_modified(now + Duration::from_secs(1)).expect("a time");
    };

    // Its length and the second in which it was written do not tell it from the whole one.
    write(&vec![b'\n'; whole.len()]);
    assert!(opened.renew(now).is_err());
    assert!(!opened.renew(now).expect("said once"));
    write(&whole);
    assert!(opened.renew(now).expect("it can be used"));
}

#[test]
fn what_has_expired_or_is_not_valid_yet_never_replaces_what_is_valid() {
    for (from, to, words) in [(-90, -3, "it expired on "), (3, 90, "it is not valid before ")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = make(directory.path(), -1, 60);
        let opened = Certificate::open(&certificate, &key).expect("it can be used");
        let (first, now) = (shown(&opened), SystemTime::now());
        make(directory.path(), from, to);
        let error = opened.renew(now).expect_err("it is not valid").to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(shown(&opened), first);
        assert!(opened.problem(now).is_some_and(|problem| problem.contains(words)));

        // A reload knows the same files, and does no other.
        let again = Certificate::open(&certificate, &key).expect("it can be read");
        assert!(opened.become_like(again, now).is_err());
        assert_eq!(shown(&opened), first);
        assert!(!opened.renew(now).expect("said already"));

        // The clock was wrong, or the time has come: nobody has to touch the file.
        let is_shown = opened.renew(now + 4 * DAY).expect("an expired one was told already");
        assert_eq!(is_shown, from > 0);
        make(directory.path(), -1, 90);
        assert!(opened.renew(now).expect("it is valid"));
        assert_eq!(opened.problem(now), None);
    }
}

#[test]
fn where_nothing_is_valid_the_files_say_what_is_shown() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = make(directory.path(), -90, -3);
    let opened = Certificate::open(&certificate, &key).expect("better than nothing");
    let (first, now) = (shown(&opened), SystemTime::now());
    let problem = opened.problem(now).expect("it has expired");
    assert!(problem.starts_with("it expired on ") && problem.contains("3 days ago"), "{problem}");
    make(directory.path(), -90, -1);
    assert!(opened.renew(now).expect("it is shown"));
    assert_ne!(shown(&opened), first);
}

#[test]
fn a_local_certificate_that_cannot_be_made_anew_is_told_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = make_local(directory.path(), 10);
    let ours = Certificate::open_local(&certificate, &key).expect("it can be used");
    let (first, now) = (shown(&ours), SystemTime::now());
    // Where the new files would be written first, whoever writes them.
    let in_the_way = certificate.with_extension(format!("{}.tmp", std::process::id()));
    fs::create_dir(&in_the_way).expect("made");

    let error = ours.renew(now).expect_err("it cannot be written").to_string();
    assert!(error.starts_with("cannot keep the local certificate in"), "{error}");
    for _ in 0..3 {
        assert!(!ours.renew(now).expect("told already"));
        let problem = ours.problem(now).expect("it goes on");
        assert!(problem.contains("it expires on") && problem.contains(&error), "{problem}");
    }
    assert_eq!(shown(&ours), first);

    fs::remove_dir(&in_the_way).expect("removed");
    assert!(ours.renew(now).expect("made anew"));
    assert_ne!(shown(&ours), first);
    assert_eq!(ours.problem(now), None);
}

#[test]
fn a_start_takes_a_local_certificate_that_is_valid_and_cannot_be_made_anew() {
    for (days, is_taken) in [(10, true), (-1, false)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (certificate, _key) = make_local(directory.path(), days);
        let in_the_way = certificate.with_extension(format!("{}.tmp", std::process::id()));
        fs::create_dir(&in_the_way).expect("made");
        let now = SystemTime::now();
        let opened = local_certificate::open_in(directory.path(), now);
        assert_eq!(opened.is_ok(), is_taken, "{opened:?}");
        let Ok(opened) = opened else { continue };
        let first = shown(&opened);
        assert!(opened.renew(now).is_err(), "it is tried again, and told");
        fs::remove_dir(&in_the_way).expect("removed");
        assert!(opened.renew(now).expect("made anew"));
        assert_ne!(shown(&opened), first);
    }
}

#[test]
fn a_local_certificate_is_made_anew_before_it_ends() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = make_local(directory.path(), 10);
    let now = SystemTime::now();
    let theirs = Certificate::open(&certificate, &key).expect("it can be used");
    assert!(!theirs.renew(now).expect("not ours to make"));
    let ours = Certificate::open_local(&certificate, &key).expect("it can be used");
    assert!(ours.renew(now).expect("made anew"));
    assert_eq!(ours.problem(now), None);
}
