//! Tokens that are minted: each verifies with the key's public half, and nothing else makes one.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use ssegate_auth::jwt::{
    self, Algorithm, JwtSettings, Key, KeySet, MintError, SigningKey, UnverifiedToken,
};
use ssegate_auth::{Identity, Refusal};

const SECRET: &[u8] = b"a secret of sixty-four bytes, as long as the hash of HS512 is: ok";

fn keys() -> Value {
    serde_json::from_str(include_str!("openssl/keys.json")).expect("JSON")
}

/// The private key of this name, in each of its forms.
fn forms(name: &str) -> Vec<String> {
    let forms = keys()[name]["forms"].as_array().expect("forms").clone();
    forms.into_iter().map(|form| form.as_str().expect("PEM").to_owned()).collect()
}

fn public(name: &str) -> Key {
    Key::from_pem(keys()[name]["public"].as_str().expect("PEM")).expect("a key")
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn claims() -> Map<String, Value> {
    object(json!({"sub": "42", "exp": 2000, "org": {"id": 7}}))
}

fn verify(token: &str, key: Key, algorithm: Algorithm) -> Result<Identity, Refusal> {
    let keys: KeySet = [key].into_iter().collect();
    let settings = JwtSettings { algorithms: vec![algorithm], ..JwtSettings::default() };
    jwt::verify(token, &keys, &settings, SystemTime::UNIX_EPOCH + Duration::from_secs(1000))
}

// part() { printf %s "$1" | basenc --base64url -w 0 | tr -d =; }
// signed=$(part '{"alg":"HS256","typ":"JWT"}').$(part '{"exp":2000,"sub":"42"}')
// printf %s "$signed" | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef -binary | basenc --base64url
#[test]
fn a_token_is_that_of_openssl() {
    let key = SigningKey::from_secret(b"0123456789abcdef0123456789abcdef");
    let claims = object(json!({"sub": "42", "exp": 2000}));
    assert_eq!(
        jwt::mint(&claims, &key, Algorithm::HS256, None).expect("a token"),
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjIwMDAsInN1YiI6IjQyIn0.CczrsWYRabU5GuZy4xvioExNawSHLUkb-r3V_IWs3ZY"
    );
}

#[test]
fn a_token_of_each_algorithm_verifies_with_the_public_key_and_with_no_other() {
    let mut minted = 0;
    for name in ["rsa", "p256", "p384", "ed25519"] {
        for pem in forms(name) {
            let key = SigningKey::from_pem(&pem).expect(&pem);
            for &algorithm in key.algorithms() {
                let token = jwt::mint(&claims(), &key, algorithm, None).expect("a token");
                let identity = verify(&token, public(name), algorithm).expect("good");
                assert_eq!((identity.id.as_deref(), identity.claims), (Some("42"), claims()));
                let other = public(if name == "rsa" { "p256" } else { "rsa" });
                assert_eq!(verify(&token, other, algorithm), Err(Refusal::Signature));
                minted += 1;
            }
        }
    }
    let secret = SigningKey::from_secret(SECRET);
    for &algorithm in secret.algorithms() {
        let token = jwt::mint(&claims(), &secret, algorithm, None).expect("a token");
        assert!(verify(&token, Key::from_secret(SECRET), algorithm).is_ok());
        assert!(verify(&token, Key::from_secret(&SECRET[1..]), algorithm).is_err());
        minted += 1;
    }
    assert_eq!(minted, 3 * (6 + 1 + 1 + 1) + 3);
}

#[test]
fn a_key_signs_only_with_its_own_algorithms() {
    let secret = SigningKey::from_secret(SECRET);
    let of_key = |name: &str| SigningKey::from_pem(&forms(name)[0]).expect("a key");
    for (key, algorithm, own) in [
        (&secret, Algorithm::ES256, "HS256, HS384 or HS512"),
        (&of_key("rsa"), Algorithm::HS256, "RS256, RS384, RS512, PS256, PS384 or PS512"),
        (&of_key("p256"), Algorithm::ES384, "ES256"),
        (&of_key("p384"), Algorithm::ES256, "ES384"),
        (&of_key("ed25519"), Algorithm::HS512, "EdDSA"),
    ] {
        let minted = jwt::mint(&claims(), key, algorithm, None);
        assert_eq!(minted, Err(MintError::Algorithm(algorithm, own)));
    }
    assert!(SigningKey::from_secret(&SECRET[..31]).is_short_for(Algorithm::HS256));
    assert!(!SigningKey::from_secret(&SECRET[..32]).is_short_for(Algorithm::HS256));
    assert!(!of_key("rsa").is_short_for(Algorithm::HS512));
}

#[test]
fn what_is_no_private_key_says_what_it_is() {
    let error = |pem: &str| SigningKey::from_pem(pem).expect_err("no key");
    assert_eq!(error(keys()["rsa"]["public"].as_str().expect("PEM")), MintError::Public);
    assert_eq!(error(keys()["encrypted"].as_str().expect("PEM")), MintError::Pem);
    assert_eq!(error("a secret"), MintError::Pem);
    for form in forms("p521").iter().chain(&forms("small")) {
        assert_eq!(error(form), MintError::Kind);
    }
    let garbled = forms("p256")[2].replace("MIGH", "MIGG");
    assert_eq!(error(&garbled), MintError::Kind);
    let secret = SigningKey::from_secret(SECRET);
    assert!(!format!("{secret:?}").contains("sixty"), "{secret:?}");
}

#[test]
fn a_key_id_finds_its_key() {
    let key = SigningKey::from_secret(SECRET);
    let token = jwt::mint(&claims(), &key, Algorithm::HS256, Some("k1")).expect("a token");
    let UnverifiedToken { header, claims: read } = jwt::inspect(&token).expect("a token");
    assert_eq!(header, object(json!({"alg": "HS256", "typ": "JWT", "kid": "k1"})));
    assert_eq!(read, claims());
}

#[test]
fn whatever_can_be_read_is_inspected() {
    // {"alg":"none","crit":["x"]} and {}
    let none = jwt::inspect("eyJhbGciOiJub25lIiwiY3JpdCI6WyJ4Il19.e30.").expect("readable");
    assert_eq!(none.header["alg"], "none");
    assert!(none.claims.is_empty());
    for wrong in ["", "e30", "e30.e30", "e30.W10.", "W10.e30.", "e30.e30=.", "e30.e30.e30.e30.e30"]
    {
        assert!(matches!(jwt::inspect(wrong), Err(Refusal::Malformed(_))), "{wrong}");
    }
}

#[test]
fn a_key_is_equal_to_itself_in_every_form() {
    let rsa = public("rsa");
    assert_eq!(rsa, public("rsa"));
    assert_ne!(rsa, public("p256"));
    assert_ne!(Key::from_secret(SECRET), Key::from_secret(&SECRET[1..]));
    assert_eq!(Key::from_secret(SECRET), Key::from_secret(SECRET));
    let set = |keys: &[&Key]| keys.iter().copied().cloned().collect::<KeySet>();
    assert_eq!(set(&[&rsa]), set(&[&public("rsa")]));
    assert_ne!(set(&[&rsa]), set(&[&rsa, &rsa]));
    assert_ne!(set(&[&rsa]), KeySet::default());
}
