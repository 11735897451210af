//! Hashes that others have made: htpasswd 2.4, PHP 8.2, argon2-cffi 21.1 and the program argon2.

use super::{PasswordFileError, PasswordHashError, Passwords};

const HORSE: &str = "correct horse";

// htpasswd -nbB -C 5 alice 'correct horse'; htpasswd -nbB -C 4 ümlaut 'pässwörd'; php -r 'echo
// password_hash("correct horse", PASSWORD_BCRYPT, ["cost" => 5]);' and the same with PASSWORD_ARGON2ID, ["memory_cost" =>
// 1024, "time_cost" => 2, "threads" => 1]; python3 -c 'import argon2; print(argon2.PasswordHasher(time_cost=2,
// memory_cost=1024, parallelism=4).hash("correct horse"))'; printf 'correct horse' | argon2 saltsaltsalt -id -t 2 -k 1024
// -p 2 -e
const FILE: &str = "\
# A comment, and an empty line

htpasswd:$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve
ümlaut:$2y$04$daHo4uCpBxSytCTMhwaF1eOfXJ1gaEsO9s6ma4YqZmj4EMV6jfQGS
php:$2y$05$oJzcZXPBXPeXlCiSR9VicO/kgPZ4QDLa6Tn.Iog/xeUHiRbEi8djS
php argon2id:$argon2id$v=19$m=1024,t=2,p=1$NGhQUE5pRGcyUjFzRGdzVA$DibNUQOCtRT8MaoKKZkkBq9ORpPurTMuq5FsTCdxM80
python:$argon2id$v=19$m=1024,t=2,p=4$PWV+Yfp/9wQa02Rb5sAZsw$3Io2qiTSzteYDntSsddyLg
argon2:$argon2id$v=19$m=1024,t=2,p=2$c2FsdHNhbHRzYWx0$qDu78dzg43wNCwrnaRuSh+G60VnJQ8/VSJ/sz2V2m1c\r
";

/// Seventy-two times `a`, of which bcrypt reads no more: htpasswd -nbB -C 4 long ….
const LONG: &str = "long:$2y$04$phkXDkyKwgBCAr3F5uM/i.eV8W07PgfHgnVAgJD5tMEshp9F2kY56\n";

fn errors(text: &str) -> Vec<PasswordFileError> {
    Passwords::parse(text).expect_err(text)
}

fn hash_error(hash: &str) -> PasswordHashError {
    match errors(&format!("alice:{hash}\n"))[..] {
        [PasswordFileError::Hash(1, error)] => error,
        ref other => panic!("{hash}: {other:?}"),
    }
}

#[test]
fn hashes_of_others_are_verified() {
    let passwords = Passwords::parse(FILE).expect("a file");
    assert_eq!(passwords.user_count(), 6);
    for name in ["htpasswd", "php", "php argon2id", "python", "argon2"] {
        assert!(passwords.verify(name, HORSE), "{name}");
        for wrong in ["", "Correct horse", "correct horse ", "pässwörd"] {
            assert!(!passwords.verify(name, wrong), "{name}: {wrong}");
        }
    }
    assert!(passwords.verify("ümlaut", "pässwörd"));
    assert!(!passwords.verify("Htpasswd", HORSE) && !passwords.verify("", HORSE));
}

#[test]
fn the_older_prefixes_of_bcrypt_are_the_same_hash() {
    for prefix in ["$2a$", "$2b$"] {
        let file = FILE.replace("$2y$", prefix);
        assert!(Passwords::parse(&file).expect("a file").verify("htpasswd", HORSE), "{prefix}");
    }
}

#[test]
fn bcrypt_reads_72_bytes_and_nothing_is_hashed_beyond_a_kilobyte() {
    let passwords = Passwords::parse(LONG).expect("a file");
    for (length, is_right) in [(71, false), (72, true), (73, true), (1024, true), (1025, false)] {
        assert_eq!(passwords.verify("long", &"a".repeat(length)), is_right, "{length}");
    }
}

#[test]
fn an_unknown_name_is_verified_with_the_first_hash_and_still_refused() {
    let passwords = Passwords::parse(FILE).expect("a file");
    let (known, is_known) = passwords.hash_for("htpasswd");
    assert!(is_known && known.is_of(HORSE));
    let (hash, is_known) = passwords.hash_for("nobody");
    assert_eq!((hash, is_known), (known, false));
    assert!(!passwords.verify("nobody", HORSE));
}

#[test]
fn a_hash_that_can_be_guessed_names_its_kind_and_what_makes_a_better_one() {
    // htpasswd -nbm, -nbs, -nbd, -nbp, -nb2 and -nb5; php -r 'echo password_hash("correct horse", PASSWORD_ARGON2I, …);'
    for (hash, kind) in [
        ("$apr1$Jq6/pLf0$Drk1CYtxwjUmQEG242Ftx/", "MD5"),
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1"),
        ("BM94CyIn9LDAs", "DES crypt or plain text"),
        ("secret", "plain text or in a form that is not known"),
        ("", "plain text or in a form that is not known"),
        ("$5$uUgTZQaK0mURzDPk$Xc/XTPA4/ZYvKdkcJUlhJijqiX99m.b7Q9jP1ZOyvX2", "SHA-2 crypt"),
        (
            "$6$k3uhHNYjA0IPdZs.$C8KJe/v4pKR3kMp3vhTX8loSa15kZKaeR5WoBvvXtmS0EfOMle2jdw71",
            "SHA-2 crypt",
        ),
        (
            "$argon2i$v=19$m=1024,t=2,p=1$MlBCVmVZUnVoRHZrTXlQRw$eRl/BInB54GjL41rt18utsftYa6FubMoUOA0/W1GHO0",
            "argon2i or argon2d instead of argon2id",
        ),
    ] {
        assert_eq!(hash_error(hash), PasswordHashError::Weak(kind), "{hash}");
        let said = errors(&format!("bob:{hash}"))[0].to_string();
        assert!(said.starts_with("line 1: ") && said.contains("htpasswd -B"), "{said}");
        assert!(hash.len() < 7 || !said.contains(&hash[4..]), "{said}");
    }
}

#[test]
fn a_file_cannot_make_a_login_slow() {
    let bcrypt =
        |cost: &str| format!("$2y${cost}$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve");
    for (cost, error) in [("03", 3), ("15", 15), ("31", 31), ("99", 99)] {
        assert_eq!(hash_error(&bcrypt(cost)), PasswordHashError::Cost(error));
    }
    assert!(Passwords::parse(&format!("a:{}", bcrypt("14"))).is_ok());
    let argon2 = |params: &str| {
        format!(
            "$argon2id$v=19${params}$NGhQUE5pRGcyUjFzRGdzVA$DibNUQOCtRT8MaoKKZkkBq9ORpPurTMuq5FsTCdxM80"
        )
    };
    for (memory_kib, passes) in [(262_145, 1), (262_144, 5), (65_536, 17), (1024, u32::MAX)] {
        assert_eq!(
            hash_error(&argon2(&format!("m={memory_kib},t={passes},p=1"))),
            PasswordHashError::Work { memory_kib, passes }
        );
    }
    assert_eq!(hash_error(&argon2("m=1024,t=1,p=65")), PasswordHashError::Lanes(65));
    for good in ["m=262144,t=4,p=4", "m=65536,t=4,p=1", "m=102400,t=2,p=8", "m=19456,t=2,p=1"] {
        assert!(Passwords::parse(&format!("a:{}", argon2(good))).is_ok(), "{good}");
    }
}

#[test]
fn a_damaged_hash_is_an_error() {
    for hash in [
        "$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYv",
        "$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYvee",
        "$2y$5$$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve",
        "$2y$05$zzscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDT!ve",
        "$2y$05$ézscoQs5tS8H03T1vkmHIuJu7Eg.fowCOom4b8kmiOJtCVDZDTYve",
        "$2y$",
    ] {
        assert_eq!(hash_error(hash), PasswordHashError::Damaged("bcrypt"), "{hash}");
    }
    let salt_and_hash = "NGhQUE5pRGcyUjFzRGdzVA$DibNUQOCtRT8MaoKKZkkBq9ORpPurTMuq5FsTCdxM80";
    for hash in [
        "$argon2id$".to_owned(),
        format!("$argon2id$v=16$m=1024,t=2,p=1${salt_and_hash}"),
        format!("$argon2id$m=1024,t=2,p=1${salt_and_hash}"),
        format!("$argon2id$v=19$m=1024,t=2,p=1,keyid=AAAA${salt_and_hash}"),
        format!("$argon2id$v=19$m=1024,t=2,p=1,data=AAAA${salt_and_hash}"),
        format!("$argon2id$v=19$m=1,t=2,p=1${salt_and_hash}"),
        format!("$argon2id$v=19$m=1024,t=0,p=1${salt_and_hash}"),
        format!("$argon2id$v=19$m=1024,t=2,p=1${}", &salt_and_hash[..22]),
        "$argon2id$v=19$m=1024,t=2,p=1$NGhQUE5pRGcyUjFzRGdzVA$DibNUQOCtRT8MaoK".to_owned(),
        "$argon2id$v=19$m=1024,t=2,p=1$AAAA$DibNUQOCtRT8MaoKKZkkBq9ORpPurTMuq5FsTCdxM80".to_owned(),
    ] {
        assert_eq!(hash_error(&hash), PasswordHashError::Damaged("argon2id"), "{hash}");
    }
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    let hash = "$2y$05$oJzcZXPBXPeXlCiSR9VicO/kgPZ4QDLa6Tn.Iog/xeUHiRbEi8djS";
    let file = format!("a:{hash}\n\n#\nsecret\n:{hash}\na:{hash}\nb\u{1}:{hash}\nc:secret\n");
    let said: Vec<String> = errors(&file).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 4: `name:hash` is expected; `htpasswd -nB NAME` prints such a line",
            "line 5: `name:hash` is expected; `htpasswd -nB NAME` prints such a line",
            "line 6: its name has a hash already, in line 1; remove one of them",
            "line 7: the name has a control character",
            "line 8: the password is stored as plain text or in a form that is not known, which \
             protects it too little; `htpasswd -B FILE NAME` stores a bcrypt hash",
        ]
    );
    for nobody in ["", "\n\n", "# a:b\n"] {
        assert_eq!(errors(nobody), [PasswordFileError::Empty]);
    }
    let many: String = (0..10_002).map(|at| format!("{at}:{hash}\n")).collect();
    assert_eq!(errors(&many), [PasswordFileError::TooMany(10_001)]);
}

#[test]
fn files_are_equal_by_what_they_say_and_no_debug_shows_a_hash() {
    let passwords = Passwords::parse(FILE).expect("a file");
    assert_eq!(passwords, Passwords::parse(&format!("#\n{FILE}")).expect("a file"));
    assert_ne!(passwords, Passwords::parse(&format!("{FILE}{LONG}")).expect("a file"));
    let debug = format!("{passwords:?}");
    for part in ["zzscoQ", "Eg.fow", "NGhQUE", "DibNUQ"] {
        assert!(!debug.contains(part), "{debug}");
    }
}
