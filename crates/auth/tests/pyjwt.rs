//! Tokens that PyJWT has made, of every algorithm, and of every kind that is to be refused.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use ssegate_auth::jwt::{self, Algorithm, JwtSettings, Key, KeyError, KeySet};
use ssegate_auth::{Identity, Refusal};

fn tokens() -> Value {
    serde_json::from_str(include_str!("pyjwt/tokens.json")).expect("JSON")
}

fn now() -> SystemTime {
    let now = tokens()["now"].as_u64().expect("a time");
    SystemTime::UNIX_EPOCH + Duration::from_secs(now)
}

fn settings(algorithms: &[Algorithm]) -> JwtSettings {
    JwtSettings {
        algorithms: algorithms.to_vec(),
        issuers: vec!["https://app".to_owned()],
        audiences: vec!["events".to_owned()],
        ..JwtSettings::default()
    }
}

fn jwks() -> KeySet {
    KeySet::from_jwks(tokens()["jwks"].to_string().as_bytes()).expect("a set")
}

fn secret() -> Key {
    Key::from_secret(tokens()["secret"].as_str().expect("a secret").as_bytes())
}

fn pem(name: &str) -> Key {
    Key::from_pem(tokens()["pem"][name].as_str().expect("PEM")).expect("a key")
}

/// All keys of which one has signed each good token.
fn all_keys() -> KeySet {
    jwks().into_iter().chain([secret()]).collect()
}

fn verify(token: &str, keys: &KeySet, algorithm: Algorithm) -> Result<Identity, Refusal> {
    jwt::verify(token, keys, &settings(&[algorithm]), now())
}

fn algorithm(name: &Value) -> Algorithm {
    name.as_str().expect("a name").parse().expect("an algorithm")
}

#[test]
fn a_token_of_each_algorithm_is_accepted_with_its_key() {
    let good = tokens()["good"].as_array().expect("an array").clone();
    assert_eq!(good.len(), 12);
    let pems: KeySet =
        ["rsa", "p256", "p384", "ed"].map(pem).into_iter().chain([secret()]).collect();
    for case in good {
        let token = case["token"].as_str().expect("a token");
        let with_id = case["kid"].as_str().unwrap_or(token);
        let algorithm = algorithm(&case["algorithm"]);
        for keys in [&all_keys(), &pems] {
            for token in [token, with_id] {
                let identity = verify(token, keys, algorithm).expect("good");
                assert_eq!(identity.id.as_deref(), Some("42"), "{algorithm:?}");
                assert_eq!(identity.expires, Some(now() + Duration::from_secs(600)));
                assert_eq!(identity.issued, Some(now() - Duration::from_secs(5)));
                assert_eq!(identity.claim("iss").as_deref(), Some("https://app"));
            }
        }
    }
}

#[test]
fn a_token_of_each_algorithm_is_refused_where_another_is_allowed_or_another_key_known() {
    let good = tokens()["good"].as_array().expect("an array").clone();
    for case in &good {
        let token = case["token"].as_str().expect("a token");
        let own = algorithm(&case["algorithm"]);
        for other in &good {
            let other = algorithm(&other["algorithm"]);
            let verified = verify(token, &all_keys(), other);
            assert_eq!(verified.is_ok(), other == own, "{own:?} as {other:?}");
        }
        for (key, is_own) in [
            (secret(), format!("{own:?}").starts_with("HS")),
            (pem("p256"), own == Algorithm::ES256),
            (pem("p384"), own == Algorithm::ES384),
            (pem("ed"), own == Algorithm::EdDSA),
        ] {
            let verified = verify(token, &[key].into_iter().collect(), own);
            assert_eq!(verified.is_ok(), is_own, "{own:?} {verified:?}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_token_is_told() {
    let cases = tokens()["claims"].as_array().expect("an array").clone();
    assert!(cases.len() > 40);
    for case in cases {
        let name = &case["name"];
        let token = case["token"].as_str().expect("a token");
        let verified = verify(token, &all_keys(), Algorithm::ES256);
        let refused = verified.as_ref().err().map(Refusal::as_str);
        assert_eq!(refused, case["refused"].as_str(), "{name}: {verified:?}");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let token = tokens()["confused"].as_str().expect("a token").to_owned();
    let keys: KeySet = [pem("rsa")].into_iter().collect();
    let settings = settings(&[Algorithm::RS256, Algorithm::HS256]);
    assert_eq!(jwt::verify(&token, &keys, &settings, now()), Err(Refusal::Signature));
    // With that text as a secret it would be good: the token is what it claims to be.
    let text = tokens()["pem"]["rsa"].as_str().expect("PEM").to_owned();
    let keys: KeySet = [Key::from_secret(text.as_bytes())].into_iter().collect();
    assert!(jwt::verify(&token, &keys, &settings, now()).is_ok());
}

#[test]
fn settings_that_ask_for_less_accept_more() {
    let cases = tokens()["claims"].as_array().expect("an array").clone();
    let token = |name: &str| {
        let case = cases.iter().find(|case| case["name"] == name).expect("a case");
        case["token"].as_str().expect("a token").to_owned()
    };
    let verify = |name: &str, change: &dyn Fn(&mut JwtSettings)| {
        let mut settings = settings(&[Algorithm::ES256]);
        change(&mut settings);
        jwt::verify(&token(name), &all_keys(), &settings, now())
    };
    assert!(verify("without exp", &|s| s.may_never_expire = true).is_ok());
    assert!(verify("wrong issuer", &|s| s.issuers.clear()).is_ok());
    assert!(verify("no audience", &|s| s.audiences.clear()).is_ok());
    let audience = verify("wrong audience", &|s| s.audiences.clear());
    assert_eq!(audience, Err(Refusal::Claim("aud")), "it is for somebody else");
    assert!(verify("typ logout+jwt", &|s| s.types = vec!["logout+JWT".into()]).is_ok());
    assert_eq!(
        verify("within leeway", &|s| s.types = vec!["at+jwt".into()]),
        Err(Refusal::Claim("typ")),
        "PyJWT's own is JWT"
    );
    let expired = verify("within leeway", &|s| s.leeway = Duration::ZERO);
    assert_eq!(expired, Err(Refusal::Expired { by: Duration::from_secs(29) }));
}

#[test]
fn a_key_is_read_from_a_certificate_and_never_from_a_private_key() {
    let certificate = tokens()["certificate"].as_str().expect("PEM").to_owned();
    let key = Key::from_pem(&certificate).expect("a key");
    assert!(key.is_for(Algorithm::ES256) && !key.is_for(Algorithm::ES384));
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(Key::from_pem(private).err(), Some(KeyError::Private));
    for wrong in ["", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(Key::from_pem(wrong).err(), Some(KeyError::Pem), "{wrong}");
    }
    let debug = format!("{:?} {:?}", secret(), jwks());
    assert!(!debug.contains("sixty-four") && !debug.contains("SecretOrDer"), "{debug}");
}

#[test]
fn a_set_leaves_out_what_verifies_no_signature() {
    let set = tokens()["jwks"].clone();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut set = set.clone();
        let keys = set["keys"].as_array_mut().expect("keys");
        keys.retain(|key| key["kid"] == "p256");
        change(&mut keys[0]);
        KeySet::from_jwks(set.to_string().as_bytes()).map(|set| set.iter().count())
    };
    assert_eq!(with(&|_| {}), Ok(1));
    assert_eq!(with(&|key| key["alg"] = "ES256".into()), Ok(1));
    assert_eq!(with(&|key| key["key_ops"] = vec!["verify"].into()), Ok(1));
    assert_eq!(with(&|key| key["other"] = 1.into()), Ok(1), "unknown members are ignored");
    let none = Err(KeyError::Jwks("it has no key that verifies signatures"));
    for (name, value) in [
        ("use", Value::from("enc")),
        ("key_ops", vec!["sign"].into()),
        ("alg", "ES384".into()),
        ("alg", "RS256".into()),
        ("kty", "oct".into()),
        ("kty", 1.into()),
        ("crv", "P-521".into()),
        ("crv", "P-384".into()),
        ("x", "AA".into()),
        ("y", "!".into()),
    ] {
        assert_eq!(with(&|key| key[name] = value.clone()), none, "{name}: {value}");
    }
    for (text, why) in [
        ("", "an object with an array `keys` is expected"),
        ("[]", "an object with an array `keys` is expected"),
        ("{\"keys\":[]}", "it has no key that verifies signatures"),
        ("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "it has no key that verifies signatures"),
    ] {
        let set = KeySet::from_jwks(text.as_bytes());
        assert_eq!(set.err(), Some(KeyError::Jwks(why)), "{text}");
    }
    let many = vec![set["keys"][0].clone(); 65];
    let set = KeySet::from_jwks(serde_json::json!({ "keys": many }).to_string().as_bytes());
    assert_eq!(set.err(), Some(KeyError::Jwks("it has more than 64 keys")));
}

#[test]
fn a_secret_is_as_long_as_the_hash() {
    let key = Key::from_secret(&[0; 47]);
    assert!(!key.is_short_for(Algorithm::HS256));
    assert!(key.is_short_for(Algorithm::HS384) && key.is_short_for(Algorithm::HS512));
    assert!(!pem("ed").is_short_for(Algorithm::EdDSA));
}

#[test]
fn a_key_is_the_same_in_pem_and_in_a_set_but_for_its_id() {
    for (at, name) in ["rsa", "p256", "p384", "ed"].into_iter().enumerate() {
        let mut member = tokens()["jwks"]["keys"][at].clone();
        assert_eq!(member["kid"], name);
        let set = |member: &Value| {
            let set = serde_json::json!({ "keys": [member] }).to_string();
            KeySet::from_jwks(set.as_bytes()).expect("a set").into_iter().next().expect("a key")
        };
        assert_ne!(set(&member), pem(name), "one has an id");
        member.as_object_mut().expect("an object").remove("kid");
        assert_eq!(set(&member), pem(name));
    }
    assert_eq!(jwks(), jwks());
}
