use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::{
    ControlKey, MAX_MESSAGE_BYTES, MAX_REMEMBERED, MESSAGE_TYPE, RevocableIds, Revocation,
    RevocationBatch, RevocationList, RevocationTarget, read, sign,
};
use crate::jwt::{self, Algorithm, JwtSettings, Key, SigningKey};
use crate::{Identity, Refusal};

const SECRET: &[u8] = b"a control key of forty-two bytes, as it is";
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key() -> ControlKey {
    ControlKey::new(SECRET).expect("long enough")
}

fn subject(id: &str, is_blocked: bool) -> RevocationTarget {
    RevocationTarget::Subject { id: id.to_owned(), is_blocked }
}

fn targets() -> [RevocationTarget; 6] {
    [
        subject("42", false),
        subject("42", true),
        RevocationTarget::Token("t-1".into()),
        RevocationTarget::Session("s-1".into()),
        RevocationTarget::Channel("news".into()),
        RevocationTarget::All,
    ]
}

/// A revocation that was decided at this time, and is remembered for an hour.
fn revoked(target: RevocationTarget, seconds: u64) -> Revocation {
    Revocation::new(target, at(seconds), Duration::from_secs(3600)).expect("well formed")
}

fn message(claims: &Value) -> String {
    typed(MESSAGE_TYPE, claims)
}

fn typed(typ: &str, claims: &Value) -> String {
    let claims = claims.as_object().expect("an object");
    jwt::mint_typed(typ, claims, &SigningKey::from_secret(SECRET), Algorithm::HS256, None)
        .expect("a message")
}

/// The claims of a good message, but for these.
fn claims(changed: Value) -> Value {
    let mut claims = json!({"iat": NOW, "exp": NOW + 3600, "jti": "n-1", "sub": "42"});
    let Value::Object(changed) = changed else { panic!("no object") };
    claims.as_object_mut().expect("an object").extend(changed);
    claims
}

fn token(id: &str, issued: Option<u64>, more: Value) -> Identity {
    let Value::Object(claims) = more else { panic!("no object") };
    let claims: Map<String, Value> =
        claims.into_iter().chain([("sub".into(), id.into())]).collect();
    Identity { id: Some(id.to_owned()), claims, issued: issued.map(at), ..Identity::default() }
}

#[test]
fn what_is_signed_is_read_again() {
    for target in targets() {
        for millis in [0, 1, 123, 999] {
            let issued = at(NOW) + Duration::from_millis(millis);
            let revocation = Revocation::new(target.clone(), issued, Duration::from_secs(60));
            let revocation = revocation.expect("well formed");
            assert_eq!((revocation.issued(), revocation.target()), (issued, &target));
            let text = sign(&revocation, &key());
            assert_eq!(read(&text, &key(), at(NOW)), Ok(revocation), "{text}");
        }
    }
    let nonces = [(); 2].map(|()| revoked(RevocationTarget::All, NOW).nonce().to_owned());
    assert_ne!(nonces[0], nonces[1]);
}

// jwt.encode({"iat": 1800000000.25, "exp": 1800086400, "jti": "n-1", "sub": "42", "block": True},
//     "a control key of forty-two bytes, as it is", algorithm="HS256", headers={"typ": "ssegate-revoke+jwt"})
#[test]
fn a_message_of_pyjwt_is_read() {
    let text = "eyJhbGciOiJIUzI1NiIsInR5cCI6InNzZWdhdGUtcmV2b2tlK2p3dCJ9.\
                eyJpYXQiOjE4MDAwMDAwMDAuMjUsImV4cCI6MTgwMDA4NjQwMCwianRpIjoibi0xIiwic3ViIjoiNDIiLCJibG9jayI6dHJ1ZX0.\
                xMs7IN_8V5RlEtBs0U7ejlzj90EdQu9m-b5b7XLf8MU";
    let revocation = read(text, &key(), at(NOW)).expect("a revocation");
    assert_eq!(revocation.target(), &subject("42", true));
    assert_eq!(revocation.issued(), at(NOW) + Duration::from_millis(250));
    assert_eq!((revocation.expires(), revocation.nonce()), (at(NOW + 86_400), "n-1"));
}

// The same key, and no `typ` of its own: jwt.encode({"iat": …, "exp": …, "jti": "n-1", "sub": "42"}, …)
#[test]
fn no_other_token_passes_as_a_message_and_no_message_as_a_token() {
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                 eyJpYXQiOjE4MDAwMDAwMDAsImV4cCI6MTgwMDA4NjQwMCwianRpIjoibi0xIiwic3ViIjoiNDIifQ.\
                 2htSLX63Mbr5xj2ektLBh7oTRgdRQ5tCcKOJfGP39aU";
    assert_eq!(read(token, &key(), at(NOW)), Err(Refusal::Claim("typ")));
    assert_eq!(
        read(&typed("at+jwt", &claims(json!({}))), &key(), at(NOW)),
        Err(Refusal::Claim("typ"))
    );
    assert!(
        read(&typed("application/SSEgate-revoke+JWT", &claims(json!({}))), &key(), at(NOW)).is_ok()
    );

    let keys = [Key::from_secret(SECRET)].into_iter().collect();
    let settings = JwtSettings { algorithms: vec![Algorithm::HS256], ..JwtSettings::default() };
    assert!(jwt::verify(token, &keys, &settings, at(NOW)).is_ok());
    let text = sign(&revoked(subject("42", false), NOW), &key());
    assert_eq!(jwt::verify(&text, &keys, &settings, at(NOW)), Err(Refusal::Claim("typ")));
}

#[test]
fn a_message_of_another_form_is_refused() {
    const ONE: Refusal =
        Refusal::Malformed("exactly one of `sub`, `token`, `sid`, `channel` and `all` is expected");
    const BLOCK: Refusal = Refusal::Malformed("`block` goes with `sub` alone");
    const TARGET: Refusal =
        Refusal::Malformed("what is revoked is empty or longer than 1024 bytes");
    let year = MAX_REMEMBERED.as_secs();
    for (changed, expected) in [
        (json!({}), None),
        (json!({"sub": 42}), None),
        (json!({"sub": null, "token": "t"}), None),
        (json!({"sub": null, "sid": "s", "block": false}), None),
        (json!({"all": false, "block": true}), None),
        (json!({"other": 1}), None),
        (json!({"iat": NOW + 60}), None),
        (json!({"iat": NOW - 86_400}), None),
        (json!({"exp": NOW + year}), None),
        (json!({"sub": "x".repeat(1024)}), None),
        (json!({"jti": "n".repeat(128)}), None),
        (json!({"iat": NOW + 61}), Some(Refusal::NotYet)),
        (json!({"iat": null}), Some(Refusal::Claim("iat"))),
        (json!({"iat": "now"}), Some(Refusal::Claim("iat"))),
        (json!({"exp": NOW}), Some(Refusal::Expired { by: Duration::ZERO })),
        (json!({"exp": null}), Some(Refusal::Claim("exp"))),
        (json!({"exp": NOW + year + 1}), Some(Refusal::Claim("exp"))),
        (json!({"jti": null}), Some(Refusal::Claim("jti"))),
        (json!({"jti": ""}), Some(Refusal::Claim("jti"))),
        (json!({"jti": "n".repeat(129)}), Some(Refusal::Claim("jti"))),
        (json!({"jti": ["n"]}), Some(Refusal::Claim("jti"))),
        (json!({"sub": null}), Some(ONE)),
        (json!({"sub": null, "all": false}), Some(ONE)),
        (json!({"token": "t"}), Some(ONE)),
        (json!({"all": true}), Some(ONE)),
        (json!({"channel": "c"}), Some(ONE)),
        (json!({"sub": {}}), Some(Refusal::Claim("sub"))),
        (json!({"sub": ""}), Some(TARGET)),
        (json!({"sub": "x".repeat(1025)}), Some(TARGET)),
        (json!({"sub": null, "channel": ""}), Some(TARGET)),
        (json!({"sid": ["s"]}), Some(Refusal::Claim("sid"))),
        (json!({"all": "yes"}), Some(Refusal::Claim("all"))),
        (json!({"block": 1}), Some(Refusal::Claim("block"))),
        (json!({"sub": null, "all": true, "block": true}), Some(BLOCK)),
        (json!({"sub": null, "channel": "c", "block": true}), Some(BLOCK)),
        (json!({"aud": "events"}), Some(Refusal::Claim("aud"))),
    ] {
        let text = message(&claims(changed.clone()));
        assert_eq!(read(&text, &key(), at(NOW)).err(), expected, "{changed}");
    }
}

#[test]
fn a_message_is_signed_with_the_control_key_and_short() {
    let good = message(&claims(json!({})));
    let other = ControlKey::new(&[7; 32]).expect("long enough");
    assert_eq!(read(&good, &other, at(NOW)), Err(Refusal::Signature));
    assert_eq!(read(&good.replace("eyJ", "eyK"), &key(), at(NOW)).ok(), None);
    let claims = claims(json!({"other": "x".repeat(MAX_MESSAGE_BYTES)}));
    let long = read(&message(&claims), &key(), at(NOW));
    assert_eq!(long, Err(Refusal::Malformed("longer than a revocation may be")));
    let claims = claims.as_object().expect("an object");
    let hs512 = SigningKey::from_secret(SECRET);
    let hs512 = jwt::mint_typed(MESSAGE_TYPE, claims, &hs512, Algorithm::HS512, None);
    assert!(read(&hs512.expect("a message"), &key(), at(NOW)).is_err());
    assert!(read("", &key(), at(NOW)).is_err());

    assert_eq!(ControlKey::new(&SECRET[..31]), None);
    assert_eq!(key(), key());
    assert_ne!(key(), other);
    assert_eq!(format!("{:?}", key()), "ControlKey(…)");
}

#[test]
fn what_cannot_be_a_message_is_no_revocation() {
    let new = |target, remembered| Revocation::new(target, at(NOW), remembered).err();
    let hour = Duration::from_secs(3600);
    for id in [String::new(), "x".repeat(1025)] {
        let refused = new(RevocationTarget::Token(id), hour);
        assert!(matches!(refused, Some(Refusal::Malformed(_))), "{refused:?}");
    }
    let day = Duration::from_secs(86_400);
    assert_eq!(new(RevocationTarget::All, MAX_REMEMBERED), None);
    assert_eq!(new(RevocationTarget::All, MAX_REMEMBERED + day), Some(Refusal::Claim("exp")));
    assert_eq!(new(RevocationTarget::All, Duration::MAX), Some(Refusal::Claim("exp")));
}

/// Who comes, and which of the revocations, in the order of [`targets`], refuse them at their opening and
/// end their stream.
fn cases() -> [(&'static str, Identity, &'static str, &'static str); 12] {
    let ids = json!({"jti": "t-1", "sid": "s-1"});
    [
        ("issued before", token("42", Some(NOW - 1), json!({})), "xx...x", "xx..cx"),
        ("issued in the same second", token("42", Some(NOW), json!({})), "xx...x", "xx..cx"),
        ("issued after", token("42", Some(NOW + 1), json!({})), ".x....", "xx..cx"),
        ("without iat", token("42", None, json!({})), "xx...x", "xx..cx"),
        ("somebody else", token("4", Some(NOW - 1), json!({})), ".....x", "....cx"),
        ("by its own id", token("4", Some(NOW - 1), ids.clone()), "..xx.x", "..xxcx"),
        ("by its own id, after", token("4", Some(NOW + 9), ids), "..xx..", "..xxcx"),
        (
            "with other ids",
            token("4", Some(NOW + 9), json!({"jti": "t-2", "sid": 1})),
            "......",
            "....cx",
        ),
        ("a static token", Identity::named("42"), ".x....", "xx..cx"),
        ("another static token", Identity::named("4"), "......", "....cx"),
        ("nobody", Identity::default(), "......", "....cx"),
        (
            "a token without subject",
            Identity { id: None, ..token("42", Some(NOW), json!({"sid": "s-1"})) },
            "...x.x",
            "...xcx",
        ),
    ]
}

#[test]
fn a_credential_is_refused_and_a_stream_ended_by_the_revocations_that_mean_them() {
    for (name, identity, refused, ended) in cases() {
        for (target, (refused, ended)) in targets().iter().zip(refused.chars().zip(ended.chars())) {
            // Decided in the middle of a second, as people do.
            let issued = at(NOW) + Duration::from_millis(400);
            let revocation = Revocation::new(target.clone(), issued, Duration::from_secs(3600));
            let revocation = revocation.expect("well formed");
            let ids = RevocableIds::of(&identity);
            let batch: RevocationBatch<'_> = [&revocation].into_iter().collect();
            let ends = |channels: &[&str]| {
                batch.ending(std::slice::from_ref(&ids), channels.iter().copied()).is_some()
            };
            assert_eq!(ends(&[]), ended == 'x', "{name}: {target:?}");
            assert_eq!(ends(&["old", "news"]), ended != '.', "{name}: {target:?}");
            assert_eq!(ends(&["New", "newsletter"]), ended == 'x', "{name}: {target:?}");

            let mut list = RevocationList::default();
            assert!(!list.refuses(&identity, at(NOW)));
            assert!(list.add(revocation));
            for (now, is_refused) in
                [(NOW, refused == 'x'), (NOW + 3600, refused == 'x'), (NOW + 3601, false)]
            {
                assert_eq!(
                    list.refuses(&identity, at(now)),
                    is_refused,
                    "{name}: {target:?} {now}"
                );
            }
            list.purge(at(NOW + 3600));
            assert_eq!((list.len(), list.evicted()), (1, 0));
            list.purge(at(NOW + 3601));
            assert!(list.is_empty() && !list.refuses(&identity, at(NOW)), "{name}: {target:?}");
        }
    }
}

#[test]
fn of_several_revocations_each_ends_its_own_streams() {
    let revocations = [targets().as_slice(), &[subject("43", false)]].concat();
    let revocations: Vec<_> = revocations.into_iter().map(|it| revoked(it, NOW)).collect();
    let without_all = revocations.iter().filter(|it| it.target() != &RevocationTarget::All);
    let without_all: RevocationBatch<'_> = without_all.collect();
    let all: RevocationBatch<'_> = revocations.iter().collect();
    for (id, more, channels, expected) in [
        ("42", json!({}), &["x"][..], Some(0)),
        ("43", json!({"jti": "t-1"}), &["x"], Some(5)),
        ("4", json!({"jti": "t-1"}), &["x"], Some(2)),
        ("4", json!({"sid": "s-1", "jti": "t-2"}), &["x"], Some(3)),
        ("4", json!({"sid": "t-1", "jti": "s-1"}), &["x", "news"], Some(4)),
        ("4", json!({}), &["x"], None),
    ] {
        let ids = RevocableIds::of(&token(id, None, more));
        let ending = |batch: &RevocationBatch<'_>| {
            batch.ending(std::slice::from_ref(&ids), channels.iter().copied())
        };
        assert_eq!(ending(&without_all), expected, "{ids:?}");
        assert!(ending(&all).is_some(), "{ids:?}");
    }
}

#[test]
fn a_repetition_changes_nothing() {
    let mut list = RevocationList::default();
    let revocation = revoked(subject("42", false), NOW);
    assert!(list.add(revocation.clone()));
    assert!(!list.add(revocation.clone()));
    assert_eq!(list.len(), 1);
    list.purge(at(NOW + 3600));
    assert!(list.add(revocation), "it was forgotten");
}

#[test]
fn of_several_revocations_the_farthest_that_holds_decides() {
    let mut list = RevocationList::default();
    let minute =
        |issued| Revocation::new(subject("42", false), at(issued), Duration::from_secs(60));
    // Remembered until NOW + 3600, NOW + 110 and NOW + 70.
    list.add(revoked(subject("42", false), NOW));
    list.add(minute(NOW + 50).expect("well formed"));
    list.add(minute(NOW + 10).expect("well formed"));
    let refuses = |list: &RevocationList, issued, now| {
        list.refuses(&token("42", Some(issued), json!({})), at(now))
    };
    assert!(refuses(&list, NOW + 50, NOW + 109));
    assert!(!refuses(&list, NOW + 50, NOW + 110));
    assert!(refuses(&list, NOW, NOW + 110));
    list.purge(at(NOW + 110));
    assert!(refuses(&list, NOW, NOW + 3599));
    assert_eq!(list.len(), 1);
}

#[test]
fn a_full_list_evicts_what_expires_first_and_counts_it() {
    let mut list = RevocationList::new(3);
    let token_revoked = |id: u64, remembered| {
        let target = RevocationTarget::Token(id.to_string());
        Revocation::new(target, at(NOW), Duration::from_secs(remembered)).expect("well formed")
    };
    let refuses = |list: &RevocationList, id: u64| {
        list.refuses(&token("4", Some(NOW), json!({"jti": id.to_string()})), at(NOW))
    };
    for (id, remembered) in [(1, 200), (2, 100), (3, 300)] {
        assert!(list.add(token_revoked(id, remembered)));
    }
    assert_eq!((list.len(), list.evicted()), (3, 0));
    assert!(list.add(token_revoked(4, 400)));
    assert_eq!((list.len(), list.evicted()), (3, 1));
    assert_eq!([1, 2, 3, 4].map(|id| refuses(&list, id)), [true, false, true, true]);
    assert!(list.add(token_revoked(5, 50)), "new, and the first to go");
    assert_eq!((list.len(), list.evicted()), (3, 2));
    assert!(!refuses(&list, 5));
}

#[test]
fn a_list_at_its_bound_forgets_all_of_it() {
    let mut list = RevocationList::default();
    for at in 0..super::MAX_REVOCATIONS as u64 + 10 {
        let id = (at / 4).to_string();
        let target = match at % 4 {
            0 => subject(&id, false),
            1 => RevocationTarget::Token(id),
            2 => RevocationTarget::Session(id),
            _ => RevocationTarget::All,
        };
        assert!(list.add(revoked(target, NOW + at)));
    }
    assert_eq!((list.len(), list.evicted()), (super::MAX_REVOCATIONS, 10));
    list.purge(at(NOW + 1_000_000));
    let debug = format!("{list:?}");
    assert!(list.is_empty() && debug.len() < 400, "something is left: {}", debug.len());
}
